"""What a client hears, waiting to be read."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from streamasr.events import Final, Partial, SpeechStarted
from streamasr.wire.native_reader import Finalized, ServerError, Status

WAITING_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class Connected:
    """What follows is of ``session``. ``resumed``: it is the one before the loss. Otherwise its
    clock and its utterances count anew: ``audio_seconds`` is where that clock stood, None where
    the server did not say."""

    session: str
    resumed: bool = False
    audio_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone and tried again until a ``Connected`` comes."""

    reason: str


ClientEvent = SpeechStarted | Partial | Final | Finalized | Status | ServerError | Connected | Lost


@dataclass(slots=True)
class Incoming:
    """Events in order, but for partials and status: of each only the newest waits, and comes
    once the others were read. ``changed`` is called when something came, and when there is
    room again."""

    changed: Callable[[], None]
    _waiting: deque[ClientEvent] = field(default_factory=deque, init=False)
    _status: Status | None = field(default=None, init=False)
    _partial: Partial | None = field(default=None, init=False)

    def has_room(self) -> bool:
        """False where so many wait that no more should be heard."""
        return len(self._waiting) < WAITING_EVENTS

    def has_next(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting or self._status or self._partial)

    def take(self) -> ClientEvent:
        """The next; there must be one."""
        if not self.has_room():
            self.changed()
        if self._waiting:
            return self._waiting.popleft()
        if self._status is not None:
            status, self._status = self._status, None
            return status
        assert self._partial is not None
        partial, self._partial = self._partial, None
        return partial

    def put(self, event: ClientEvent) -> None:
        """Queue an event of the session. A final or a loss says more than the partial before."""
        if isinstance(event, Partial):
            self._partial = event
        elif isinstance(event, Status):
            self._status = event
        else:
            if isinstance(event, Final | Lost):
                self._partial = None
            self._waiting.append(event)
        self.changed()
