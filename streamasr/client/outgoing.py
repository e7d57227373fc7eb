"""What a client has to say and the server has not acted on, kept to be said again."""

from collections import deque
from dataclasses import dataclass, field

from streamasr.wire.native_reader import CLOSE


@dataclass(slots=True)
class Outgoing:
    """One session's messages in order, numbered from 0: first those that were sent, then those
    to be sent. ``config`` is the first of every session."""

    config: str | None
    held_bytes: int = field(default=0, init=False)
    has_spoken: bool = field(default=False, init=False)
    """Whether audio was sent in this session."""
    _held: deque[str | bytes] = field(default_factory=deque, init=False)
    _first: int = field(default=0, init=False)
    _next: int = field(default=0, init=False)
    _keep: bool = field(default=True, init=False)
    _was_heard: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.config is not None:
            self.put(self.config)

    def put(self, message: str | bytes) -> None:
        """Queue it as the last one."""
        self._held.append(message)
        self.held_bytes += len(message)

    def has_next(self) -> bool:
        """Whether something is to be sent."""
        return self._next - self._first < len(self._held)

    def take(self) -> str | bytes:
        """The next to be sent; there must be one."""
        message = self._held[self._next - self._first]
        self._next += 1
        self.has_spoken = self.has_spoken or isinstance(message, bytes)
        if not self._keep:
            self.acknowledge(self._next)
        return message

    def acknowledge(self, received: int) -> None:
        """The server has acted on the first ``received`` messages. A ``close`` is kept: where the
        answer to it is lost, the session after this one must be closed, too."""
        while self._first < min(received, self._next) and self._held[0] is not CLOSE:
            message = self._held.popleft()
            self.held_bytes -= len(message)
            self._was_heard = self._was_heard or isinstance(message, bytes)
            self._first += 1

    def resume(self, received: int) -> None:
        """Go on in the same session with message number ``received``."""
        self.acknowledge(received)
        self._next = self._first
        self.has_spoken = self._was_heard  # until then it is a viewer of the microphone

    def begin_session(self, *, keep: bool) -> None:
        """Say what is held to a session that knows nothing. Without ``keep`` the server never
        acknowledges, and what was sent is forgotten."""
        if self.config is not None and self._first > 0:
            self._held.appendleft(self.config)
            self.held_bytes += len(self.config)
        self._first = self._next = 0
        self._keep = keep
        self.has_spoken = self._was_heard = False
