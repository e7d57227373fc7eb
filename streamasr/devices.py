"""``streamasr devices``: what can be recorded from, in which rates, and how loud it is there."""

import queue
import sys
import threading
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamasr.capture.level import meter, rms_db
from streamasr.capture.microphone import MEND, Device, Microphone, list_devices, supported_rates_hz
from streamasr.config import CaptureConfig
from streamasr.errors import CaptureError, ConfigError

RATES_HZ = (16_000, 44_100, 48_000)
SAMPLE_RATE_HZ = 16_000
LONGEST_SECONDS = 60.0
ANSWER_SECONDS = 15.0
SILENT = "pure digital silence; muted in the mixer? pactl set-source-mute @DEFAULT_SOURCE@ 0"


def show(seconds: float) -> None:
    """Print every device and listen to each for ``seconds``, not at all where that is 0.

    Raises CaptureError where there is none or the sound system hangs, ConfigError for ``seconds``
    that cannot be.
    """
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ConfigError(f"--seconds must be 0..{LONGEST_SECONDS:g}, not {seconds:g}")
    # PortAudio waits for a sound server for ever: a thread that is left behind does it.
    said: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
    threading.Thread(target=_say_all, args=(seconds, said.put), daemon=True).start()
    try:
        while (line := said.get(timeout=ANSWER_SECONDS + seconds)) is not None:
            if isinstance(line, Exception):
                raise line
            print(line, flush=True)
    except queue.Empty:
        raise CaptureError(
            f"the sound system does not answer within {ANSWER_SECONDS:g} s; "
            "`streamasr doctor` looks for the cause"
        ) from None


def _say_all(seconds: float, say: Callable[[str | Exception | None], None]) -> None:
    """Every line of ``show`` as it is known, and None at the end; an exception ends it, too."""
    try:
        devices = list_devices()
        if not devices:
            raise CaptureError(f"there is no microphone; {MEND}")
        for device, rates_hz in zip(devices, supported_rates_hz(devices, RATES_HZ), strict=True):
            default = "  (default)" if device.is_default else ""
            takes = " ".join(map(str, rates_hz)) or "none"
            say(
                f"{device.index:>3}  {device.name}  {device.channels} ch, "
                f"{device.default_rate_hz} Hz, in 16 bits: {takes}{default}"
            )
            if seconds:
                say(f"     {_heard(device, seconds)}")
    except Exception as error:
        say(error)
    else:
        say(None)


def watch(name: str | None) -> None:
    """A live meter of the device ``name``, or of the default, until Ctrl-C.

    Raises CaptureError, ConfigError where the output is no terminal.
    """
    if not sys.stdout.isatty():
        raise ConfigError("--watch draws on a terminal; elsewhere use --seconds")
    microphone = Microphone(CaptureConfig(device=name), SAMPLE_RATE_HZ)
    try:
        print(f"{microphone.device.name}: Ctrl-C ends")
        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            while True:
                block = microphone.read()
                clipped = microphone.counts.clipped_samples
                line = Text(f"{meter(block)}  RMS {rms_db(block):4.0f} dB")
                line.append(f"  {clipped} clipped", style="red" if clipped else "dim")
                live.update(line, refresh=True)
    except KeyboardInterrupt:
        return
    finally:
        microphone.close()


def _heard(device: Device, seconds: float) -> str:
    """How loud it is at ``device``, or why that cannot be said, in one line."""
    try:
        microphone = Microphone(CaptureConfig(device=str(device.index)), SAMPLE_RATE_HZ)
    except CaptureError as error:
        return str(error).partition(";")[0]
    try:
        samples = np.concatenate(list(microphone.blocks(seconds)))
    except CaptureError as error:
        return str(error)
    finally:
        microphone.close()
    if not samples.any():
        return SILENT
    return f"{meter(samples)} peak, {rms_db(samples):.0f} dB RMS"
