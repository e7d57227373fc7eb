"""One listener's place in the engine: a queue of jobs and the stream that they are for.

``feed``, ``finalize`` and the like may be called from any thread; they only queue. The engine's
worker takes the jobs in order and carries them out.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from streamasr.change_over import change_over, is_between_utterances
from streamasr.config import SAMPLE_BYTES, Encoding, EndpointConfig
from streamasr.decoder.expected import Expected
from streamasr.errors import ProtocolError, StreamFinished
from streamasr.events import EndReason, Event
from streamasr.frontend.resample import PcmDecoder, Resampler, Samples
from streamasr.recognizer import Recognizer, Stream

TURN_SECONDS = 0.16
BACKLOG_BYTES = 16 << 20
"""A stream's backlog is never larger, however many bytes its seconds have."""

T = TypeVar("T")
Audible = TypeVar("Audible", bytes, Samples)
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
class Wishes:
    """How a stream is to differ from its recognizer: ``endpoint`` makes its rules out of the
    recognizer's, ``max_alternatives`` None leaves their number."""

    endpoint: Callable[[EndpointConfig], EndpointConfig] | None = None
    max_alternatives: int | None = None
    expected: Expected = field(default_factory=Expected)


@dataclass(frozen=True, slots=True)
class Audio:
    """Bytes or samples, and when they were fed."""

    data: bytes | Samples
    fed_at_seconds: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the queue; ``done`` is resolved when the worker comes to it."""

    done: Future[None]
    fed_at_seconds: float


@dataclass(frozen=True, slots=True)
class End(Mark):
    """The end of an utterance, or of the whole stream where ``last``."""

    reason: EndReason
    last: bool


Job = Audio | Mark


class EngineStream:
    """One listener's place in the engine; made by ``Engine.open``.

    Fed either bytes of ``pcm`` or, where ``pcm`` is None, samples at the model's rate.
    """

    def __init__(
        self,
        stream: Stream,
        deliver: Deliver,
        fail: Fail,
        *,
        name: str,
        pcm: PcmFormat | None,
        wishes: Wishes,
        lock: threading.Condition,
        line: "deque[EngineStream]",
        max_backlog_seconds: float,
    ) -> None:
        """``lock`` guards the queues of all streams and ``line``, where those with jobs stand."""
        rate_hz = stream.recognizer.sample_rate_hz
        self.name = name
        self.wishes = wishes
        self.deliver = deliver
        self.fail = fail
        self.is_broken = False
        self._lock = lock
        self._line = line
        self._stream = stream
        self._successor: Stream | None = None
        self._decoder: PcmDecoder | None = None
        self._resampler: Resampler | None = None
        self._units_per_second = rate_hz  # a unit is a byte of pcm, or a sample without pcm
        if pcm is not None:
            self._decoder = PcmDecoder(pcm.encoding, pcm.channels)
            self._resampler = Resampler(pcm.sample_rate_hz, rate_hz)
            self._units_per_second = pcm.sample_rate_hz * pcm.channels * SAMPLE_BYTES[pcm.encoding]
        self._limit_units = max_backlog_seconds * self._units_per_second
        if pcm is not None:
            self._limit_units = min(self._limit_units, BACKLOG_BYTES)
        self._jobs: deque[Job] = deque()
        self._fed_units = 0
        self._backlog_units = 0
        self._discarded_units = 0
        self._in_line = False
        self._finish: Future[None] | None = None
        self._waiting_for_room: deque[tuple[int, Future[None]]] = deque()

    @property
    def recognizer(self) -> Recognizer:
        """What it hears with, or will as soon as no utterance is in progress."""
        with self._lock:
            return (self._successor or self._stream).recognizer

    @property
    def is_finished(self) -> bool:
        """Whether its end was asked for."""
        return self._finish is not None

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

    def pieces(self, audio: Audible) -> Iterator[Audible]:
        """``audio`` cut so that each piece fits the backlog; a second at most."""
        longest_units = max(1, int(min(self._units_per_second, self._limit_units)))
        for first in range(0, len(audio), longest_units):
            yield audio[first : first + longest_units]

    def feed(self, audio: bytes | Samples) -> None:
        """Queue audio. Raises ProtocolError ``backlog`` where it does not fit (nothing is
        queued then) and StreamFinished after ``finish``."""
        with self._lock:
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
            if len(audio) and not self.is_broken:
                self._fed_units += len(audio)
                self._backlog_units += len(audio)
                self._queue(Audio(audio, time.perf_counter()))

    def room_for(self, audio: bytes | Samples) -> "Future[None]":
        """Resolved as soon as ``feed(audio)`` would not exceed the backlog. Audio longer
        than the whole backlog never fits: see ``pieces``."""
        room: Future[None] = pending()
        with self._lock:
            if self._has_room(len(audio)):
                room.set_result(None)
            else:
                self._waiting_for_room.append((len(audio), room))
        return room

    def heard(self) -> "Future[None]":
        """Resolved when the events of everything fed so far were delivered."""
        with self._lock:
            mark = Mark(pending(), time.perf_counter())
            self._queue(mark)
            return mark.done

    def finalize(self, reason: EndReason = "finalize") -> "Future[None]":
        """End the utterance after what was fed; resolved when its events were delivered."""
        with self._lock:
            if self._finish is not None:
                raise StreamFinished("finalize() was called after the stream was finished")
            return self._queue_end(reason, last=False)

    def finish(self, reason: EndReason = "eof") -> "Future[None]":
        """End the stream after what was fed; resolved when its last event was delivered.
        Idempotent: later calls return the same future."""
        with self._lock:
            if self._finish is None:
                self._finish = self._queue_end(reason, last=True)
            return self._finish

    def discard_backlog(self) -> None:
        """Throw away the queued audio, counted in ``discarded_seconds``; the rest stays."""
        with self._lock:
            marks = [job for job in self._jobs if isinstance(job, Mark)]
            dropped = sum(len(job.data) for job in self._jobs if isinstance(job, Audio))
            self._jobs = deque(marks)
            self._backlog_units -= dropped
            self._discarded_units += dropped
            self._grant_room()

    def move_to(self, successor: Stream) -> "Future[None]":
        """Go on with the recognizer of ``successor``, which has heard nothing, as soon as no
        utterance is in progress; resolved when that was tried first."""
        with self._lock:
            self._successor = successor
        return self.heard()

    # Below: what the worker calls; with the lock held, except step.

    def take(self) -> Job | None:
        """The next mark or end, or up to one turn of audio; None where nothing is queued."""
        if not self._jobs:
            return None
        first = self._jobs.popleft()
        if isinstance(first, Mark):
            return first
        turn_units = max(1, int(TURN_SECONDS * self._units_per_second))
        taken = [first]
        taken_units = len(first.data)
        while taken_units < turn_units and self._jobs and isinstance(self._jobs[0], Audio):
            taken.append(self._jobs.popleft())  # type: ignore[arg-type]
            taken_units += len(taken[-1].data)
        excess_units = taken_units - turn_units
        if excess_units > 0:
            last = taken.pop()
            keep_units = len(last.data) - excess_units
            self._jobs.appendleft(replace(last, data=last.data[keep_units:]))
            taken.append(replace(last, data=last.data[:keep_units]))
        return Audio(self._joined([audio.data for audio in taken]), first.fed_at_seconds)

    def done(self, job: Job | None) -> bool:
        """``job`` was carried out; whether another waits."""
        if isinstance(job, Audio):
            self._backlog_units -= len(job.data)
            self._grant_room()
        self._in_line = bool(self._jobs)
        return self._in_line

    def step(self, job: Job) -> list[Event]:
        """Compute; without the lock."""
        events = self._carry_out(job)
        self._change_over()
        return events

    # Below: for this class alone.

    def _carry_out(self, job: Job) -> list[Event]:
        if isinstance(job, End):
            if not job.last:
                return self._stream.finalize(job.reason)
            tail = self._resampler.flush() if self._resampler is not None else ()
            events = self._stream.feed(tail) if len(tail) else []  # type: ignore[arg-type]
            return [*events, *self._stream.finish(job.reason)]
        if isinstance(job, Mark):
            return []
        samples = job.data
        if isinstance(samples, bytes):
            assert self._decoder is not None
            assert self._resampler is not None
            samples = self._resampler.process(self._decoder.decode(samples))
        return self._stream.feed(samples) if len(samples) else []

    def _change_over(self) -> None:
        with self._lock:
            successor = self._successor
        if successor is not None and is_between_utterances(self._stream.state):
            try:
                change_over(self._stream, successor)
            except Exception:
                log.exception("%s keeps its model", self.name)
            else:
                self._stream = successor
            with self._lock:
                if self._successor is successor:  # else there is a newer one
                    self._successor = None

    def _has_room(self, units: int) -> bool:
        return self._backlog_units + units <= self._limit_units

    def _grant_room(self) -> None:
        while self._waiting_for_room and self._has_room(self._waiting_for_room[0][0]):
            _, room = self._waiting_for_room.popleft()
            room.set_result(None)

    def _queue_end(self, reason: EndReason, *, last: bool) -> "Future[None]":
        end = End(pending(), time.perf_counter(), reason, last)
        self._queue(end)
        return end.done

    def _queue(self, job: Job) -> None:
        self._jobs.append(job)
        if not self._in_line:
            self._in_line = True
            self._line.append(self)
            self._lock.notify_all()

    def _joined(self, parts: list[bytes | Samples]) -> bytes | Samples:
        if len(parts) == 1:
            return parts[0]
        if self._decoder is not None:
            return b"".join(part for part in parts if isinstance(part, bytes))
        return np.concatenate([part for part in parts if not isinstance(part, bytes)])


def pending() -> "Future[T]":
    """A future that nobody but the engine can resolve: a waiter that gives up must not
    cancel what others wait for."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    return future
