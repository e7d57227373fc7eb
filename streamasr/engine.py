"""Steps every stream on one worker thread, so that the event loop never computes.

Theory of operation. Each ``EngineStream`` has a queue of jobs (audio, finalize, finish)
that are carried out in order. Streams with jobs stand in one line; the worker takes the
first, works through at most ``TURN_SECONDS`` of its audio, and sends it to the end of the
line if more is waiting. So a speaker who sends an hour at once delays another by one turn
at most. What comes out is handed to the event loop that the engine was started on, in
order, before the future of the job is resolved.

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
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from streamasr.config import SAMPLE_BYTES, Encoding, EndpointConfig
from streamasr.decoder.expected import Search
from streamasr.errors import AudioFormatError, ProtocolError, StreamFinished
from streamasr.events import EndReason, Event, Final
from streamasr.frontend.resample import PcmDecoder, Resampler, Samples
from streamasr.recognizer import Recognizer, Stream

TURN_SECONDS = 0.16
BACKLOG_BYTES = 16 << 20
"""A stream's backlog is never larger, however many bytes its seconds have."""

T = TypeVar("T")

Deliver = Callable[[list[Event]], None]
Fail = Callable[[Exception], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How the bytes of a stream are to be read."""

    sample_rate_hz: int = 16_000
    channels: int = 1
    encoding: Encoding = "pcm_s16le"


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


@dataclass(frozen=True, slots=True)
class _Audio:
    """Bytes or samples, and when they were fed."""

    data: bytes | Samples
    fed_at_seconds: float


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in the queue; ``done`` is resolved when the worker comes to it."""

    done: Future[None]
    fed_at_seconds: float


@dataclass(frozen=True, slots=True)
class _End(_Mark):
    """The end of an utterance, or of the whole stream where ``last``."""

    reason: EndReason
    last: bool


_Job = _Audio | _Mark


class EngineStream:
    """One listener's place in the engine; made by ``Engine.open``.

    Fed either bytes of ``pcm`` or, where ``pcm`` is None, samples at the model's rate.
    """

    def __init__(
        self,
        engine: "Engine",
        stream: Stream,
        pcm: PcmFormat | None,
        deliver: Deliver,
        fail: Fail,
    ) -> None:
        rate_hz = engine.recognizer.sample_rate_hz
        self._engine = engine
        self._stream = stream
        self._deliver = deliver
        self._fail = fail
        self._decoder: PcmDecoder | None = None
        self._resampler: Resampler | None = None
        self._units_per_second = rate_hz  # a unit is a byte of pcm, or a sample without pcm
        if pcm is not None:
            self._decoder = PcmDecoder(pcm.encoding, pcm.channels)
            self._resampler = Resampler(pcm.sample_rate_hz, rate_hz)
            self._units_per_second = pcm.sample_rate_hz * pcm.channels * SAMPLE_BYTES[pcm.encoding]
        self._limit_units = engine.max_backlog_seconds * self._units_per_second
        if pcm is not None:
            self._limit_units = min(self._limit_units, BACKLOG_BYTES)
        self._jobs: deque[_Job] = deque()
        self._fed_units = 0
        self._backlog_units = 0
        self._discarded_units = 0
        self._in_line = False
        self._finish: Future[None] | None = None
        self._broken = False
        self._waiting_for_room: deque[tuple[int, Future[None]]] = deque()

    @property
    def fed_seconds(self) -> float:
        """Audio that was fed so far, recognised or not: the position of the stream's clock."""
        return self._fed_units / self._units_per_second

    @property
    def backlog_seconds(self) -> float:
        """Audio that was fed and not recognised yet."""
        return self._backlog_units / self._units_per_second

    @property
    def discarded_seconds(self) -> float:
        """Audio that was fed and thrown away by ``discard_backlog``."""
        return self._discarded_units / self._units_per_second

    def seconds_of(self, audio: bytes | Samples) -> float:
        """How long ``audio`` lasts."""
        return len(audio) / self._units_per_second

    def feed(self, audio: bytes | Samples) -> None:
        """Queue audio. Raises ProtocolError ``backlog`` where it does not fit (nothing is
        queued then) and StreamFinished after ``finish``."""
        with self._engine.lock:
            if self._finish is not None:
                raise StreamFinished("audio was fed after the stream was finished")
            if not self._has_room(len(audio)):
                limit_seconds = self._limit_units / self._units_per_second
                raise ProtocolError(
                    "backlog",
                    f"more than {limit_seconds:g} s of audio is waiting to be recognised; "
                    "send no faster than real time",
                    fatal=True,
                )
            if len(audio) and not self._broken:
                self._fed_units += len(audio)
                self._backlog_units += len(audio)
                self._queue(_Audio(audio, time.perf_counter()))

    def room_for(self, audio: bytes | Samples) -> "Future[None]":
        """Resolved as soon as ``feed(audio)`` would not exceed the backlog. Audio longer
        than the whole backlog never fits: cut it first."""
        room: Future[None] = _pending()
        with self._engine.lock:
            if self._has_room(len(audio)):
                room.set_result(None)
            else:
                self._waiting_for_room.append((len(audio), room))
        return room

    def heard(self) -> "Future[None]":
        """Resolved when the events of everything fed so far were delivered."""
        with self._engine.lock:
            mark = _Mark(_pending(), time.perf_counter())
            self._queue(mark)
            return mark.done

    def finalize(self, reason: EndReason = "finalize") -> "Future[None]":
        """End the utterance after what was fed; resolved when its events were delivered."""
        with self._engine.lock:
            if self._finish is not None:
                raise StreamFinished("finalize() was called after the stream was finished")
            return self._queue_end(reason, last=False)

    def finish(self, reason: EndReason = "eof") -> "Future[None]":
        """End the stream after what was fed; resolved when its last event was delivered.
        Idempotent: later calls return the same future."""
        with self._engine.lock:
            if self._finish is None:
                self._finish = self._queue_end(reason, last=True)
            return self._finish

    def discard_backlog(self) -> None:
        """Throw away the queued audio, counted in ``discarded_seconds``; the rest stays."""
        with self._engine.lock:
            marks = [job for job in self._jobs if isinstance(job, _Mark)]
            dropped = sum(len(job.data) for job in self._jobs if isinstance(job, _Audio))
            self._jobs = deque(marks)
            self._backlog_units -= dropped
            self._discarded_units += dropped
            self._grant_room()

    # Below: called with the engine's lock held, except _step.

    def _has_room(self, units: int) -> bool:
        return self._backlog_units + units <= self._limit_units

    def _grant_room(self) -> None:
        while self._waiting_for_room and self._has_room(self._waiting_for_room[0][0]):
            _, room = self._waiting_for_room.popleft()
            room.set_result(None)

    def _queue_end(self, reason: EndReason, *, last: bool) -> "Future[None]":
        end = _End(_pending(), time.perf_counter(), reason, last)
        self._queue(end)
        return end.done

    def _queue(self, job: _Job) -> None:
        self._jobs.append(job)
        if not self._in_line:
            self._in_line = True
            self._engine.line.append(self)
            self._engine.lock.notify_all()

    def _take(self) -> _Job | None:
        """The next mark or end, or up to one turn of audio; None where nothing is queued."""
        if not self._jobs:
            return None
        first = self._jobs.popleft()
        if isinstance(first, _Mark):
            return first
        turn_units = max(1, int(TURN_SECONDS * self._units_per_second))
        taken = [first]
        taken_units = len(first.data)
        while taken_units < turn_units and self._jobs and isinstance(self._jobs[0], _Audio):
            taken.append(self._jobs.popleft())  # type: ignore[arg-type]
            taken_units += len(taken[-1].data)
        excess_units = taken_units - turn_units
        if excess_units > 0:
            last = taken.pop()
            keep_units = len(last.data) - excess_units
            self._jobs.appendleft(replace(last, data=last.data[keep_units:]))
            taken.append(replace(last, data=last.data[:keep_units]))
        return _Audio(self._joined([audio.data for audio in taken]), first.fed_at_seconds)

    def _joined(self, parts: list[bytes | Samples]) -> bytes | Samples:
        if len(parts) == 1:
            return parts[0]
        if self._decoder is not None:
            return b"".join(part for part in parts if isinstance(part, bytes))
        return np.concatenate([part for part in parts if not isinstance(part, bytes)])

    def _step(self, job: _Job) -> list[Event]:
        """Compute; on the worker, without the lock."""
        if isinstance(job, _End):
            if not job.last:
                return self._stream.finalize(job.reason)
            tail = self._resampler.flush() if self._resampler is not None else ()
            events = self._stream.feed(tail) if len(tail) else []  # type: ignore[arg-type]
            return [*events, *self._stream.finish(job.reason)]
        if isinstance(job, _Mark):
            return []
        samples = job.data
        if isinstance(samples, bytes):
            assert self._decoder is not None
            assert self._resampler is not None
            samples = self._resampler.process(self._decoder.decode(samples))
        return self._stream.feed(samples) if len(samples) else []


def _pending() -> "Future[T]":
    """A future that nobody but the engine can resolve: a waiter that gives up must not
    cancel what others wait for."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future


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
        self._observe = observe
        self.lock = threading.Condition()
        self.line: deque[EngineStream] = deque()
        self._beside = asyncio.Lock()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Start the worker; events go to the event loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Stop the worker after the turn it is in; queued jobs are not carried out."""
        with self.lock:
            self._closing = True
            self.lock.notify_all()
        self._worker.join(timeout_seconds)

    def open(
        self,
        deliver: Deliver,
        fail: Fail,
        *,
        pcm: PcmFormat | None = None,
        endpoint: EndpointConfig | None = None,
        max_alternatives: int | None = None,
        search: Search | None = None,
    ) -> EngineStream:
        """A new stream. ``deliver`` gets its events and ``fail`` what went wrong, both on
        the event loop. After an AudioFormatError the stream lives on without that audio;
        after anything else it only finishes, with no more events."""
        stream = self.recognizer.stream(
            endpoint=endpoint, max_alternatives=max_alternatives, search=search
        )
        return EngineStream(self, stream, pcm, deliver, fail)

    async def beside(self, name: str, compute: Callable[[], T]) -> T:
        """Compute what takes long on a thread of that name; what that raises is raised. One at
        a time, or they would take the processor from the worker."""
        made: Future[T] = _pending()

        def run() -> None:
            try:
                made.set_result(compute())
            except BaseException as error:
                made.set_exception(error)

        async with self._beside:
            # A daemon: a stop waits for none, as it would for the loop's own threads.
            threading.Thread(target=run, name=name, daemon=True).start()
            return await asyncio.wrap_future(made)

    def _work(self) -> None:
        while True:
            with self.lock:
                while not self.line and not self._closing:
                    self.lock.wait()
                if self._closing:
                    return
                stream = self.line.popleft()
                job = stream._take()
            if job is not None:
                self._turn(stream, job)
            with self.lock:
                if isinstance(job, _Audio):
                    stream._backlog_units -= len(job.data)
                    stream._grant_room()
                stream._in_line = bool(stream._jobs)
                if stream._in_line:
                    self.line.append(stream)

    def _turn(self, stream: EngineStream, job: _Job) -> None:
        events: list[Event] = []
        failure: Exception | None = None
        started = time.perf_counter()
        if not stream._broken:
            try:
                events = stream._step(job)
            except AudioFormatError as error:
                failure = error
            except Exception as error:
                log.exception("a stream failed")
                failure = error
                stream._broken = True
        if events:
            self._call(stream._deliver, events)
        if failure is not None:
            self._call(stream._fail, failure)
        ended = time.perf_counter()
        if isinstance(job, _Audio | _End):
            audio_seconds = stream.seconds_of(job.data) if isinstance(job, _Audio) else 0.0
            finals = sum(isinstance(event, Final) for event in events)
            latency_seconds = ended - job.fed_at_seconds
            self._observe(Turn(audio_seconds, ended - started, latency_seconds, finals))
        if isinstance(job, _Mark):
            job.done.set_result(None)

    def _call(self, function: Callable[[T], None], value: T) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, value)
