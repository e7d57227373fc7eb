"""A thread that carries sound from a source into a stream of the engine."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Literal

from streamasr.capture.microphone import Microphone
from streamasr.engine_stream import EngineStream
from streamasr.errors import CaptureError, DeviceLostError, StreamasrError
from streamasr.frontend.resample import Samples

FIRST_RETRY_SECONDS = 0.5
SLOWEST_RETRY_SECONDS = 10.0
STOP_CHECK_SECONDS = 0.1

State = Literal["ok", "lost", "recovered"]

log = logging.getLogger(__name__)


class Listener:
    """Feeds ``stream`` until the source ends or ``stop`` is called, then finishes it.

    ``ended`` is resolved when the last event was delivered; it carries the StreamasrError
    that ended the source, if one did.
    """

    def __init__(self, stream: EngineStream, sample_rate_hz: int) -> None:
        self._stream = stream
        self._sample_rate_hz = sample_rate_hz
        self._microphone: Microphone | None = None
        self._lost_samples = 0
        self.stopping = threading.Event()
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()
        self._thread: threading.Thread | None = None

    @property
    def dropped_ms(self) -> int:
        """Sound that was heard and lost, so far."""
        microphone = self._microphone
        lost_samples = self._lost_samples
        if microphone is not None:
            lost_samples += microphone.overrun_samples
        return lost_samples * 1000 // self._sample_rate_hz

    def play(self, blocks: Iterator[Samples]) -> None:
        """Feed every block, in a thread of its own."""
        self._start(lambda: self._play(blocks))

    def listen(
        self, opened: Microphone, reopen: Callable[[], Microphone], show: Callable[[State], None]
    ) -> None:
        """Feed from ``opened`` in a thread of its own; when it is lost, end the utterance
        and ``reopen`` with growing pauses. ``show`` is called there with what changed."""
        self._start(lambda: self._listen(opened, reopen, show))

    def stop(self, timeout_seconds: float = 0.3) -> None:
        """Stop feeding; the stream is finished with what it has."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _start(self, run: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(run,), name="listener", daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[], None]) -> None:
        failure: Exception | None = None
        try:
            run()
        except Exception as error:
            if not isinstance(error, StreamasrError):
                log.exception("the audio input failed")
            failure = error
        finished = self._stream.finish("eof")

        def end(_: object) -> None:
            if failure is not None:
                self.ended.set_exception(failure)
            else:
                self.ended.set_result(None)

        finished.add_done_callback(end)

    def _play(self, blocks: Iterator[Samples]) -> None:
        for block in blocks:
            if not self._feed(block):
                return

    def _listen(
        self, opened: Microphone, reopen: Callable[[], Microphone], show: Callable[[State], None]
    ) -> None:
        self._microphone = opened
        while True:
            try:
                while not self.stopping.is_set():
                    self._feed(self._microphone.read())
            except DeviceLostError as error:
                log.warning("%s; waiting for it", error)
            finally:
                self._lost_samples += self._microphone.overrun_samples
                lost, self._microphone = self._microphone, None
                lost.close()
            if self.stopping.is_set():
                return
            self._wait(self._stream.finalize("device_lost"))  # the final comes before the news
            show("lost")
            found = self._find(reopen)
            if found is None:
                return
            self._microphone = found
            log.warning("the microphone is back")
            show("recovered")

    def _find(self, reopen: Callable[[], Microphone]) -> Microphone | None:
        """Try until a microphone opens; None when stopped."""
        pause_seconds = FIRST_RETRY_SECONDS
        while not self.stopping.wait(pause_seconds):
            try:
                return reopen()
            except CaptureError:
                pause_seconds = min(2 * pause_seconds, SLOWEST_RETRY_SECONDS)
        return None

    def _feed(self, block: Samples) -> bool:
        """Feed as soon as there is room; meanwhile the microphone's ring fills, and its
        overruns are counted. False when stopped."""
        if not self._wait(self._stream.room_for(block)):
            return False
        self._stream.feed(block)
        return True

    def _wait(self, future: Future[None]) -> bool:
        """Wait for the engine; False when stopped meanwhile."""
        while not self.stopping.is_set():
            try:
                future.result(STOP_CHECK_SECONDS)
            except FutureTimeoutError:
                continue
            return True
        return False
