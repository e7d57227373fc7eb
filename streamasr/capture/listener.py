"""A thread that carries sound from a source into a stream of the engine."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Literal

from streamasr.capture.microphone import Counts, Microphone
from streamasr.capture.search import Traces, sound_traces
from streamasr.engine_stream import EngineStream
from streamasr.errors import CaptureError, DeviceLostError, StreamasrError, StreamFinished
from streamasr.frontend.resample import Samples

FIRST_RETRY_SECONDS = 0.25
SLOWEST_RETRY_SECONDS = 2.0
LOOK_SECONDS = 0.25
STOP_CHECK_SECONDS = 0.1

State = Literal["ok", "lost", "recovered", "muted"]
Reopen = Callable[[], Microphone]
Show = Callable[[State], None]

log = logging.getLogger(__name__)


class Listener:
    """Feeds ``stream`` until the source ends or ``stop`` is called, then finishes it.

    ``ended`` is resolved when the last event was delivered; it carries the StreamasrError
    that ended the source, if one did. ``mute`` and ``unmute`` are for a microphone; both may
    be called from any thread, and before ``listen``.
    """

    def __init__(self, stream: EngineStream, sample_rate_hz: int) -> None:
        self._stream = stream
        self._sample_rate_hz = sample_rate_hz
        self._microphone: Microphone | None = None
        self._counts_before = Counts()
        self._drift_ppm: float | None = None
        self._lock = threading.Lock()
        self._wants_mute = False
        self._is_closed = False
        self._is_hearing = False
        self._is_missed = False
        self._disturbed = threading.Event()
        self.stopping = threading.Event()
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()
        self._thread: threading.Thread | None = None
        self._alive_at_seconds = time.monotonic()

    @property
    def stalled_seconds(self) -> float:
        """For how long the thread has neither read sound nor waited for room; 0 where no sound
        is to be expected: a sound server may hang for long while a device is opened or closed."""
        if not self._is_hearing or self._wants_mute:
            return 0.0
        return time.monotonic() - self._alive_at_seconds

    @property
    def wants_mute(self) -> bool:
        """What was asked for last; the state ``muted`` is shown when the device is closed."""
        return self._wants_mute

    @property
    def is_closed(self) -> bool:
        """Whether the device is closed because of ``mute``, and will be until ``unmute``. Where
        it is not yet, ``muted`` is going to be shown."""
        return self._is_closed

    @property
    def counts(self) -> Counts:
        """Of all microphones so far."""
        with self._lock:
            if self._microphone is None:
                return self._counts_before
            return self._counts_before + self._microphone.counts

    @property
    def dropped_ms(self) -> int:
        """Sound that was heard and lost, so far."""
        return self.counts.overrun_samples * 1000 // self._sample_rate_hz

    @property
    def drift_ppm(self) -> float | None:
        """Millionths that the microphone's clock is too fast, by the latest estimate."""
        microphone = self._microphone
        if microphone is not None and (drift_ppm := microphone.drift_ppm) is not None:
            self._drift_ppm = drift_ppm
        return self._drift_ppm

    def play(self, blocks: Iterator[Samples]) -> None:
        """Feed every block, in a thread of its own."""
        self._start(lambda: self._play(blocks))

    def listen(self, opened: Microphone | None, reopen: Reopen, show: Show) -> None:
        """Feed from ``opened`` in a thread of its own. When it is lost the utterance ends, and
        ``reopen`` is called until it gives a microphone; so it is from the beginning where
        ``opened`` is None. ``show`` is called there with what changed: ``ok`` and ``recovered``
        when the first sound came, ``lost`` and ``muted`` after the utterance's final."""
        self._start(lambda: self._listen(opened, reopen, show))

    def mute(self) -> None:
        """End the utterance and close the device, soon: nobody records any more."""
        with self._lock:
            self._wants_mute = True
        self._disturb()

    def unmute(self) -> None:
        """Look for the device again, as after a loss."""
        with self._lock:
            self._wants_mute = False
        self._disturb()

    def stop(self, timeout_seconds: float = 0.3) -> None:
        """Stop feeding; the stream is finished with what it has."""
        self.stopping.set()
        self._disturb()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _disturb(self) -> None:
        """Have the thread look at what is wanted now."""
        self._disturbed.set()
        if (microphone := self._microphone) is not None:
            microphone.wake()

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
            was_stopped = isinstance(error, StreamFinished) and self.stopping.is_set()
            failure = None if was_stopped else error
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

    def _listen(self, opened: Microphone | None, reopen: Reopen, show: Show) -> None:
        tell = _News(show)
        pause_seconds = FIRST_RETRY_SECONDS
        microphone = opened
        if microphone is None and not self.wants_mute:
            tell("lost")
        while True:
            self._disturbed.clear()
            if self.stopping.is_set():  # looked at last: who sets it disturbs after that
                return
            with self._lock:  # else it might be muted and opened at once
                self._is_closed = microphone is None and self._wants_mute
            if microphone is not None:
                if self._hear(microphone, tell):
                    pause_seconds = FIRST_RETRY_SECONDS
                microphone = None
            elif self._is_closed:
                tell("muted")
                self._disturbed.wait()
            else:
                tell.forget("muted")
                traces = sound_traces()
                try:
                    microphone = reopen()
                except CaptureError as error:
                    self._miss(str(error).partition(";")[0])
                    tell("lost")
                    changed = self._pause(pause_seconds, traces)
                    pause_seconds = min(2 * pause_seconds, SLOWEST_RETRY_SECONDS)
                    if changed:
                        pause_seconds = FIRST_RETRY_SECONDS

    def _pause(self, seconds: float, traces: Traces) -> bool:
        """Wait, unless a card or server came or went since ``traces`` were found; whether one
        did. A try costs 25 ms of computing, a look at the traces nothing."""
        end_seconds = time.monotonic() + seconds
        while (left_seconds := end_seconds - time.monotonic()) > 0:
            if self._disturbed.wait(min(left_seconds, LOOK_SECONDS)):
                return False
            if sound_traces() != traces:
                return True
        return False

    def _hear(self, microphone: Microphone, tell: "_News") -> bool:
        """Feed from ``microphone`` until it is lost, muted or stopped; it is closed then.
        Whether there was any sound."""
        heard = False
        ended: Future[None] | None = None
        self._microphone = microphone
        try:
            while not self.stopping.is_set() and not self.wants_mute:
                block = microphone.read()
                self._alive_at_seconds = time.monotonic()
                if len(block):
                    heard = self._is_hearing = True
                    if self._is_missed:
                        self._is_missed = False
                        log.warning("the microphone is back")
                    tell("recovered" if tell.last in ("lost", "recovered") else "ok")
                    self._feed(block)
            if not self.stopping.is_set():
                ended = self._stream.finalize("finalize")
        except DeviceLostError as error:
            self._miss(str(error))
            # Told before the device is closed: that may take as long as a sound server hangs.
            self._wait(self._stream.finalize("device_lost"))
            tell("lost")
        finally:
            self._is_hearing = False
            with self._lock:
                self._counts_before += microphone.counts
                self._microphone = None
            microphone.close()
        if ended is not None:
            self._wait(ended)
        return heard

    def _miss(self, problem: str) -> None:
        """Log what ails the microphone, once until it is back."""
        if not self._is_missed:
            self._is_missed = True
            log.warning("%s; waiting for it", problem)

    def _feed(self, block: Samples) -> bool:
        """Feed as soon as there is room; meanwhile the microphone's ring fills, and its
        overruns are counted. False when stopped or muted."""
        for piece in self._stream.pieces(block):
            if not self._wait(self._stream.room_for(piece), lambda: self.wants_mute):
                return False
            self._stream.feed(piece)
        return True

    def _wait(self, future: Future[None], give_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the engine; False when stopped meanwhile, or when it is time to give up."""
        while not self.stopping.is_set() and not give_up():
            self._alive_at_seconds = time.monotonic()
            try:
                future.result(STOP_CHECK_SECONDS)
            except FutureTimeoutError:
                continue
            return True
        return False


class _News:
    """Tells each state once, until it is forgotten."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self.last: State | None = None

    def __call__(self, state: State) -> None:
        if state != self.last:
            self.last = state
            self._show(state)

    def forget(self, state: State) -> None:
        """Tell ``state`` again where it comes back at once."""
        if self.last == state:
            self.last = None
