"""The microphone: PortAudio's callback writes a SampleRing, ``read`` takes from it.

Buffers, in order: PortAudio's own (one block) -> the ring (``ring_seconds``, int16 at the
device's rate) -> the resampler (a few ms). The callback never waits; it wakes the reader.
When a device goes away PortAudio raises nothing, the callbacks just stop: so a microphone
is lost when no callback came for ``silent_seconds``.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyaudio

from streamasr.config import CaptureConfig
from streamasr.errors import CaptureError, DeviceLostError
from streamasr.frontend.resample import Resampler, Samples, to_mono
from streamasr.frontend.ring import SampleRing

SILENT_SECONDS = 0.5
# A sound server may take its time before the first block (PulseAudio: up to 1.6 s).
FIRST_BLOCK_SECONDS = 5.0
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
    with _port_audio() as audio:
        return _input_devices(audio)


class Microphone:
    """An open input device. ``read`` belongs to one thread.

    The constructor raises CaptureError where the device cannot be opened. Open it only when
    the model is loaded: nobody reads the ring before. ``silent_seconds`` without a block mean
    that it is lost: who can open it again had better know soon, who cannot had better wait.
    """

    def __init__(
        self,
        config: CaptureConfig,
        sample_rate_hz: int = 16_000,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._silent_seconds = silent_seconds
        self._block_came = threading.Event()
        self._wait_seconds = FIRST_BLOCK_SECONDS
        self.overflows = 0
        with _quiet_stderr():
            self._audio = pyaudio.PyAudio()
            try:
                self.device = _choose(_input_devices(self._audio), config.device)
                self.rate_hz, self._channels = self._supported_format()
                self._resampler = Resampler(self.rate_hz, sample_rate_hz)
                self._ring = SampleRing(
                    int(config.ring_seconds * self.rate_hz) * self._channels, dtype=np.int16
                )
                self._stream = self._audio.open(
                    rate=self.rate_hz,
                    channels=self._channels,
                    format=pyaudio.paInt16,
                    input=True,
                    input_device_index=self.device.index,
                    frames_per_buffer=self.rate_hz * config.block_ms // 1000,
                    stream_callback=self._on_block,
                )
            except OSError as error:
                self._audio.terminate()
                raise CaptureError(f"cannot open the microphone: {error.args[0]}; {MEND}") from None
            except CaptureError:
                self._audio.terminate()
                raise

    @property
    def overrun_samples(self) -> int:
        """Samples lost because nobody read in time, at the model's rate."""
        lost_frames = self._ring.overrun_samples // self._channels
        return lost_frames * self._sample_rate_hz // self.rate_hz

    def read(self) -> Samples:
        """Wait for the next block and return what is unread as ``(n,)`` float32 at the
        model's rate. Raises DeviceLostError when the device gives no more blocks."""
        if not self._block_came.wait(self._wait_seconds):
            raise DeviceLostError(f"the microphone {self.device.name!r} gives no more sound")
        self._wait_seconds = self._silent_seconds
        self._block_came.clear()
        _, pcm = self._ring.read()
        frames = pcm.astype(np.float32) / np.float32(32768.0)
        return self._resampler.process(to_mono(frames.reshape(-1, self._channels)))

    def close(self) -> None:
        """Let the device go."""
        with _quiet_stderr():
            self._stream.close()
            self._audio.terminate()

    def _on_block(
        self, data: bytes | None, _frames: int, _times: Mapping[str, float], flags: int
    ) -> tuple[None, int]:
        """On PortAudio's thread: store and wake, nothing else."""
        if flags & pyaudio.paInputOverflow:
            self.overflows += 1
        if data is not None:
            self._ring.write(np.frombuffer(data, dtype=np.int16))
        self._block_came.set()
        return None, pyaudio.paContinue

    def _supported_format(self) -> tuple[int, int]:
        """The model's rate in mono where the device takes it, else its own."""
        device = self.device
        for rate_hz, channels in (
            (self._sample_rate_hz, 1),
            (device.default_rate_hz, 1),
            (device.default_rate_hz, min(device.channels, 8)),
        ):
            try:
                self._audio.is_format_supported(
                    rate_hz,
                    input_device=device.index,
                    input_channels=channels,
                    input_format=pyaudio.paInt16,
                )
            except ValueError:
                continue
            return rate_hz, channels
        raise CaptureError(f"the microphone {device.name!r} takes no 16-bit format; {MEND}")


def _choose(devices: list[Device], wanted: str | None) -> Device:
    """By index, by part of a name, or the system's default. Raises CaptureError."""
    if not devices:
        raise CaptureError(f"there is no microphone; {MEND}")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    for device in devices:
        if wanted == str(device.index) or wanted.casefold() in device.name.casefold():
            return device
    names = ", ".join(f"{device.index} {device.name!r}" for device in devices)
    raise CaptureError(f"no microphone matches {wanted!r}; choose with --device from: {names}")


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


@contextmanager
def _port_audio() -> Iterator[pyaudio.PyAudio]:
    with _quiet_stderr():
        audio = pyaudio.PyAudio()
    try:
        yield audio
    finally:
        audio.terminate()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """ALSA and JACK write 60 to 80 lines to file descriptor 2 while PortAudio looks around;
    they come from C, so the descriptor itself is pointed elsewhere for the moment."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
