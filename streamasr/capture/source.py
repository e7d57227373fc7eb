"""What the daemon hears, opened as the settings name it."""

import io
import logging
from pathlib import Path

from streamasr.capture.microphone import Microphone
from streamasr.capture.wavfile import AudioFile, PcmInput
from streamasr.config import CaptureConfig
from streamasr.errors import CaptureError

STDIN = 0

log = logging.getLogger(__name__)


class Awaited:
    """A microphone that is not open yet."""


Source = Microphone | Awaited | AudioFile | PcmInput | None


def open_source(capture: CaptureConfig, sample_rate_hz: int, *, muted: bool = False) -> Source:
    """What ``--input`` names, opened; the fallback where there is no microphone. A microphone
    that is muted stays closed.

    Raises CaptureError or AudioFormatError.
    """
    if capture.input == "none":
        return None
    if capture.input == "-":
        return PcmInput(io.FileIO(STDIN, closefd=False), sample_rate_hz, block_ms=capture.block_ms)
    if capture.input != "mic":
        return AudioFile(Path(capture.input), sample_rate_hz, capture.block_ms)
    if muted:
        return Awaited()
    try:
        return Microphone(capture, sample_rate_hz)
    except CaptureError as error:
        problem = str(error).partition(";")[0]
        if capture.wait:
            log.warning("%s: waiting for it", problem)
            return Awaited()
        if capture.fallback is None:
            raise
        log.warning("%s: playing %s instead", problem, capture.fallback)
        return AudioFile(capture.fallback, sample_rate_hz, capture.block_ms)
