"""Steps every stream on one worker thread, so that the event loop never computes.

Theory of operation. Each ``EngineStream`` has a queue of jobs (audio, finalize, finish)
that are carried out in order. Streams with jobs stand in one line; the worker takes the
first, works through at most ``TURN_SECONDS`` of its audio, and sends it to the end of the
line if more is waiting. So a speaker who sends an hour at once delays another by one turn
at most. What comes out is handed to the event loop that the engine was started on, in
order, before the future of the job is resolved.

Recognizers can be exchanged while it runs: new streams use the new one, and the others are
moved to it (``move``) where no utterance is in progress.

Queues are bounded in seconds of audio: who feeds waits for room (``room_for``) or gets a
ProtocolError with the code ``backlog``. Every turn is measured (``Turn``). All public methods
may be called from any thread.

This is the only place where several streams may one day share a step of the network: the
line of waiting streams is where a batch would be taken from.
"""

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from streamasr.decoder.expected import Search
from streamasr.engine_stream import (
    Audio,
    Deliver,
    End,
    EngineStream,
    Fail,
    Job,
    Mark,
    PcmFormat,
    Wishes,
    pending,
)
from streamasr.errors import AudioFormatError, StreamasrError
from streamasr.events import Event, Final
from streamasr.recognizer import Recognizer, Stream

IDLE_SECONDS = 1.0
"""A worker with nothing to do shows life this often."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of the worker took.

    ``latency_seconds`` is from when the oldest of its audio was fed, or its end was asked for,
    to when its events were on their way to the event loop.
    """

    audio_seconds: float
    compute_seconds: float
    latency_seconds: float
    finals: int


class Engine:
    """The worker and the line of streams that wait for it."""

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        max_backlog_seconds: float = 30.0,
        observe: Callable[[Turn], None] = lambda _: None,
    ) -> None:
        """``observe`` is called on the worker, after every turn that computed something."""
        self.recognizer = recognizer
        self.max_backlog_seconds = max_backlog_seconds
        self.logs_text = False
        """Whether the log has what was said, too."""
        self._observe = observe
        self.lock = threading.Condition()
        self.line: deque[EngineStream] = deque()
        self._streams: weakref.WeakSet[EngineStream] = weakref.WeakSet()
        self._beside = asyncio.Lock()
        self._closing = False
        self._alive_at_seconds = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fail: Callable[[StreamasrError], None] = lambda _: None
        self._worker = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, fail: Callable[[StreamasrError], None] = lambda _: None) -> None:
        """Start the worker; events go to the event loop that runs now. ``fail`` is called there
        where the worker itself fails, not a stream: it goes on as well as it can, so that there are
        last finals, but should be given up."""
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Stop the worker after the turn it is in; queued jobs are not carried out."""
        with self.lock:
            self._closing = True
            self.lock.notify_all()
        self._worker.join(timeout_seconds)

    @property
    def stalled_seconds(self) -> float:
        """For how long the worker has neither finished a turn nor been idle."""
        return time.monotonic() - self._alive_at_seconds

    def open(
        self,
        deliver: Deliver,
        fail: Fail,
        *,
        name: str = "stream",
        pcm: PcmFormat | None = None,
        wishes: Wishes | None = None,
        search: Search | None = None,
    ) -> EngineStream:
        """A new stream. ``deliver`` gets its events and ``fail`` what went wrong, both on
        the event loop. After an AudioFormatError the stream lives on without that audio;
        after anything else it only finishes, with no more events.

        ``search`` is what this engine's recognizer made of ``wishes.expected``; ``name`` is
        what the log calls the stream."""
        wishes = wishes or Wishes()
        stream = EngineStream(
            self._new_stream(wishes, search),
            deliver,
            fail,
            name=name,
            pcm=pcm,
            wishes=wishes,
            lock=self.lock,
            line=self.line,
            max_backlog_seconds=self.max_backlog_seconds,
        )
        self._streams.add(stream)
        return stream

    @property
    def streams(self) -> list[EngineStream]:
        """All that are in use and not finished."""
        return [stream for stream in self._streams if not stream.is_finished]

    def move(self, stream: EngineStream, search: Search | None = None) -> "Future[None]":
        """Let ``stream`` go on with this engine's recognizer, which is not the one that it was
        opened with but made ``search`` of its wishes, as soon as no utterance is in progress.
        Resolved when that was tried first."""
        return stream.move_to(self._new_stream(stream.wishes, search))

    async def beside(self, name: str, compute: Callable[[], T]) -> T:
        """Compute what takes long on a thread of that name; what that raises is raised. One at
        a time, or they would take the processor from the worker."""
        made: Future[T] = pending()

        def run() -> None:
            try:
                made.set_result(compute())
            except BaseException as error:
                made.set_exception(error)

        async with self._beside:
            # A daemon: a stop waits for none, as it would for the loop's own threads.
            threading.Thread(target=run, name=name, daemon=True).start()
            return await asyncio.wrap_future(made)

    def _new_stream(self, wishes: Wishes, search: Search | None) -> Stream:
        endpoint = self.recognizer.endpoint
        return self.recognizer.stream(
            endpoint=endpoint if wishes.endpoint is None else wishes.endpoint(endpoint),
            max_alternatives=wishes.max_alternatives,
            search=search,
        )

    def _run(self) -> None:
        while not self._closing:
            try:
                self._work()
            except BaseException:
                if self._closing:  # then the event loop may have ended before us
                    return
                self._call(self._fail, StreamasrError("recognition failed; the log says of what"))
                log.exception("recognition failed")

    def _work(self) -> None:
        while True:
            with self.lock:
                self._alive_at_seconds = time.monotonic()
                while not self.line and not self._closing:
                    self.lock.wait(IDLE_SECONDS)
                    self._alive_at_seconds = time.monotonic()
                if self._closing:
                    return
                stream = self.line.popleft()
            job: Job | None = None
            try:
                with self.lock:
                    job = stream.take()
                if job is not None:
                    self._turn(stream, job)
            finally:  # also where that failed nobody shall wait for it
                if isinstance(job, Mark):
                    job.done.set_result(None)
                with self.lock:
                    if stream.done(job):
                        self.line.append(stream)
            del stream, job  # else the last one is kept, with its recognizer, until another comes

    def _turn(self, stream: EngineStream, job: Job) -> None:
        events: list[Event] = []
        failure: Exception | None = None
        started = time.perf_counter()
        if not stream.is_broken:
            try:
                events = stream.step(job)
            except AudioFormatError as error:
                failure = error
            except Exception as error:
                log.exception("a stream failed")
                failure = error
                stream.is_broken = True
        if events:
            self._call(stream.deliver, events)
        if failure is not None:
            self._call(stream.fail, failure)
        ended = time.perf_counter()
        if isinstance(job, Audio | End):
            audio_seconds = stream.seconds_of(job.data) if isinstance(job, Audio) else 0.0
            finals = [event for event in events if isinstance(event, Final)]
            latency_seconds = ended - job.fed_at_seconds
            self._observe(Turn(audio_seconds, ended - started, latency_seconds, len(finals)))
            for final in finals:
                self._note(stream, final, latency_seconds)

    def _note(self, stream: EngineStream, final: Final, delay_seconds: float) -> None:
        """Log an utterance, without what was said."""
        log.info(
            "%s: utterance of %.2f s, words %d, confidence %.2f, ended by %s, delay %.0f ms%s",
            stream.name,
            final.end_seconds - final.start_seconds,
            len(final.words),
            final.confidence,
            final.endpoint_rule or final.end_reason,
            1000 * delay_seconds,
            f": {final.text}" if self.logs_text else "",
        )

    def _call(self, function: Callable[[T], None], value: T) -> None:
        assert self._loop is not None
        call_on(self._loop, lambda: function(value))


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """From another thread; nothing where the loop has ended meanwhile."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise
