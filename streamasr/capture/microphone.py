"""The microphone: PortAudio's callback writes a SampleRing, ``read`` takes from it.

Buffers, in order: PortAudio's own (one block) -> the ring (``ring_seconds``, int16 at the
device's rate) -> the resampler (a few ms). The callback never waits; it wakes the reader.
When a device goes away PortAudio raises nothing, the callbacks just stop: so a microphone
is lost when no callback came for ``silent_seconds`` and ``GRACE_SECONDS``.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyaudio

from streamasr.capture.drift import ClockDrift
from streamasr.capture.quiet import silence_c_stderr
from streamasr.config import CaptureConfig
from streamasr.errors import AudioFormatError, CaptureError, DeviceLostError
from streamasr.frontend.resample import Resampler, Samples, to_mono
from streamasr.frontend.ring import SampleRing

# Together half a second; in the second part a callback comes that had to wait for the interpreter.
SILENT_SECONDS = 0.4
GRACE_SECONDS = 0.1
# A sound server may take its time before the first block (PulseAudio: up to 1.6 s).
FIRST_BLOCK_SECONDS = 5.0
# A thread that is ready to run is woken sooner, however busy the machine is.
OVERSLEPT_SECONDS = 0.5
FULL_SCALE = 32767
UNSUPPORTED = (
    pyaudio.paInvalidSampleRate,
    pyaudio.paInvalidChannelCount,
    pyaudio.paSampleFormatNotSupported,
)
MEND = "plug one in, or choose another source with --input FILE or --input none"


@dataclass(frozen=True, slots=True)
class Device:
    """One thing that can be recorded from."""

    index: int
    name: str
    channels: int
    default_rate_hz: int
    is_default: bool


def list_devices() -> list[Device]:
    """Everything that PortAudio can record from; empty where there is nothing."""
    audio = _port_audio()
    try:
        return _input_devices(audio)
    finally:
        audio.terminate()


def supported_rates_hz(devices: list[Device], rates_hz: Sequence[int]) -> list[list[int]]:
    """For each of ``devices`` those of ``rates_hz`` that it takes in 16 bits."""

    def takes(device: Device, rate_hz: int, channels: int) -> bool:
        try:
            supported: bool = audio.is_format_supported(
                rate_hz,
                input_device=device.index,
                input_channels=channels,
                input_format=pyaudio.paInt16,
            )
        except ValueError:
            return False
        return supported

    audio = _port_audio()
    try:
        return [
            [
                rate_hz
                for rate_hz in rates_hz
                if any(takes(device, rate_hz, channels) for channels in (1, _channels(device)))
            ]
            for device in devices
        ]
    finally:
        audio.terminate()


@dataclass(frozen=True, slots=True)
class Counts:
    """What went wrong with the sound: ``overrun_samples`` lost because nobody read in time, at
    the model's rate; ``overflows``, times that PortAudio lost some; ``clipped_samples`` at full
    scale, as the device gave them."""

    overrun_samples: int = 0
    overflows: int = 0
    clipped_samples: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.overrun_samples + other.overrun_samples,
            self.overflows + other.overflows,
            self.clipped_samples + other.clipped_samples,
        )


class Microphone:
    """An open input device. ``read`` belongs to one thread.

    The constructor raises CaptureError where the device cannot be opened. Open it only when
    the model is loaded: nobody reads the ring before. ``silent_seconds`` without a block mean
    that it is lost: who can open it again had better know soon, who cannot had better wait.
    Opening and closing take as long as a sound server hangs, but hold nobody up who is on
    another thread.
    """

    def __init__(
        self,
        config: CaptureConfig,
        sample_rate_hz: int = 16_000,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._config = config
        self._sample_rate_hz = sample_rate_hz
        self._silent_seconds = silent_seconds
        self._block_came = threading.Event()
        self._wait_seconds = FIRST_BLOCK_SECONDS
        self._overflows = 0
        self._clipped_samples = 0
        self._audio = _port_audio()
        try:
            self.device = _choose(_input_devices(self._audio), config.device)
            self._stream = self._open()
        except OSError as error:
            self._audio.terminate()
            raise _cannot_open(error) from None
        except CaptureError:
            self._audio.terminate()
            raise

    @property
    def counts(self) -> Counts:
        """Since it was opened."""
        lost_frames = self._ring.overrun_samples // self._channels
        overrun_samples = lost_frames * self._sample_rate_hz // self.rate_hz
        return Counts(overrun_samples, self._overflows, self._clipped_samples)

    @property
    def drift_ppm(self) -> float | None:
        """Millionths that the device's clock is too fast; None in the first minutes."""
        return self._drift.ppm

    def read(self) -> Samples:
        """Wait for the next block and return what is unread as ``(n,)`` float32 at the
        model's rate; ``n`` is 0 after ``wake``. Raises DeviceLostError when the device gives no
        more blocks."""
        while not self._wait_for_block():
            pass
        self._block_came.clear()
        _, pcm = self._ring.read()
        if len(pcm):
            self._wait_seconds = self._silent_seconds
        self._clipped_samples += int(np.count_nonzero((pcm == FULL_SCALE) | (pcm <= -FULL_SCALE)))
        frames = pcm.astype(np.float32) / np.float32(32768.0)
        return self._resampler.process(to_mono(frames.reshape(-1, self._channels)))

    def blocks(self, seconds: float) -> Iterator[Samples]:
        """Blocks as they come until they last ``seconds`` at least."""
        heard_samples = 0
        while heard_samples < seconds * self._sample_rate_hz:
            block = self.read()
            heard_samples += len(block)
            yield block

    def wake(self) -> None:
        """Have ``read`` return at once. From any thread."""
        self._block_came.set()

    def close(self) -> None:
        """Let the device go, and what was heard last."""
        self._stream.close()
        self._audio.terminate()
        self._ring.erase()

    def _wait_for_block(self) -> bool:
        """False where we did not run meanwhile (stopped by a signal, or swapped out): that says
        nothing of the device. Raises DeviceLostError."""
        begin_seconds = time.monotonic()
        if self._block_came.wait(self._wait_seconds) or self._block_came.wait(GRACE_SECONDS):
            return True
        waited_seconds = time.monotonic() - begin_seconds
        if waited_seconds < self._wait_seconds + GRACE_SECONDS + OVERSLEPT_SECONDS:
            raise DeviceLostError(f"the microphone {self.device.name!r} gives no more sound")
        return False

    def _on_block(
        self, data: bytes | None, frames: int, _times: Mapping[str, float], flags: int
    ) -> tuple[None, int]:
        """On PortAudio's thread: store and wake, nothing else."""
        if flags & pyaudio.paInputOverflow:
            self._overflows += 1
        if data is not None:
            self._ring.write(np.frombuffer(data, dtype=np.int16))
            self._drift.heard(frames, time.monotonic())
        self._block_came.set()
        return None, pyaudio.paContinue

    def _open(self) -> pyaudio.PyAudio.Stream:
        """In the model's rate and mono where the device takes it, else in its own format.

        Formats are tried by opening: PyAudio's question whether one is supported stops every
        thread of the program for as long as a sound server hangs.
        """
        device = self.device
        own_rate_hz = device.default_rate_hz
        formats = (
            (self._sample_rate_hz, 1),
            (own_rate_hz, 1),
            (own_rate_hz, _channels(device)),
        )
        for rate_hz, channels in formats:
            self.rate_hz, self._channels = rate_hz, channels
            self._drift = ClockDrift(rate_hz)
            try:
                self._resampler = Resampler(rate_hz, self._sample_rate_hz)
            except AudioFormatError:
                continue  # a rate that no sound has
            self._ring = SampleRing(
                int(self._config.ring_seconds * rate_hz) * channels, dtype=np.int16
            )
            try:
                return self._audio.open(
                    rate=rate_hz,
                    channels=channels,
                    format=pyaudio.paInt16,
                    input=True,
                    input_device_index=device.index,
                    frames_per_buffer=rate_hz * self._config.block_ms // 1000,
                    stream_callback=self._on_block,
                )
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        raise CaptureError(f"the microphone {device.name!r} takes no 16-bit format; {MEND}")


def _choose(devices: list[Device], wanted: str | None) -> Device:
    """By name, by index, by part of a name, or the system's default. A sound card that was
    plugged in again may have another number in its name. Raises CaptureError."""
    if not devices:
        raise CaptureError(f"there is no microphone; {MEND}")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    part = wanted.casefold()
    fits: tuple[Callable[[Device], bool], ...] = (
        lambda device: device.name == wanted,
        lambda device: str(device.index) == wanted,
        lambda device: part in device.name.casefold(),
        lambda device: _without_number(part) in device.name.casefold(),
    )
    for fit in fits:
        for device in filter(fit, devices):
            return device
    names = ", ".join(f"{device.index} {device.name!r}" for device in devices)
    raise CaptureError(f"no microphone matches {wanted!r}; choose with --device from: {names}")


def _channels(device: Device) -> int:
    """As many as are opened where one alone cannot be: a sound server offers 32."""
    return min(device.channels, 8)


def _without_number(name: str) -> str:
    return re.sub(r" \(hw:\d+,\d+\)$", "", name)


def _input_devices(audio: pyaudio.PyAudio) -> list[Device]:
    try:
        default_index = audio.get_default_input_device_info()["index"]
    except OSError:
        default_index = None
    infos: list[dict[str, Any]] = [
        audio.get_device_info_by_index(index) for index in range(audio.get_device_count())
    ]
    return [
        Device(
            index=info["index"],
            name=str(info["name"]),
            channels=int(info["maxInputChannels"]),
            default_rate_hz=int(info["defaultSampleRate"]),
            is_default=info["index"] == default_index,
        )
        for info in infos
        if info["maxInputChannels"] > 0
    ]


def _port_audio() -> pyaudio.PyAudio:
    """Raises CaptureError."""
    silence_c_stderr()
    try:
        return pyaudio.PyAudio()
    except OSError as error:
        raise _cannot_open(error) from None


def _cannot_open(error: OSError) -> CaptureError:
    return CaptureError(f"cannot open the microphone: {error.strerror or error}; {MEND}")
