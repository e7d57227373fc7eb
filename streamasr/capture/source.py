"""What the daemon hears, opened as the settings name it."""

import io
import logging
import threading
from concurrent.futures import Future
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
    """What ``--input`` names, opened; the fallback where there is no microphone. One that may be
    waited for is opened later, and so is one that is muted: then a fallback is out of the question,
    and whoever unmutes it waits for it.

    Raises CaptureError or AudioFormatError.
    """
    if capture.input == "none":
        return None
    if capture.input == "-":
        return PcmInput(io.FileIO(STDIN, closefd=False), sample_rate_hz, block_ms=capture.block_ms)
    if capture.input != "mic":
        return AudioFile(Path(capture.input), sample_rate_hz, capture.block_ms)
    if muted or capture.wait:
        return Awaited()
    try:
        return _opened(capture, sample_rate_hz)
    except CaptureError as error:
        problem = str(error).partition(";")[0]
        if capture.fallback is None:
            raise
        log.warning("%s: playing %s instead", problem, capture.fallback)
        return AudioFile(capture.fallback, sample_rate_hz, capture.block_ms)


def _opened(capture: CaptureConfig, sample_rate_hz: int) -> Microphone:
    """On another thread: a sound server may hang, and Python handles no signal until the main
    thread comes back to it. Raises CaptureError."""
    opened: Future[Microphone] = Future()

    def open_it() -> None:
        try:
            opened.set_result(Microphone(capture, sample_rate_hz))
        except BaseException as error:
            opened.set_exception(error)

    threading.Thread(target=open_it, name="microphone", daemon=True).start()
    return opened.result()
