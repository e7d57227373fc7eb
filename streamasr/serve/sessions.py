"""The sessions of the native protocol: of open connections and, for a while, of cut ones."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from streamasr.serve.session import Session


class Holder(Protocol):
    """A connection that serves a session."""

    async def let_go(self) -> bool:
        """Leave the session to another connection; returns when no message of it is under way.
        False where that cannot be."""


class Sessions:
    """Finds a session by its resume token. A session without a connection is given up after
    ``resume_seconds``, or earlier where more than ``max_parked`` wait to be resumed."""

    def __init__(
        self, make: Callable[[], Session], *, resume_seconds: float, max_parked: int
    ) -> None:
        self._make = make
        self._resume_seconds = resume_seconds
        self._max_parked = max_parked
        self._replaced_before = 0
        self._held: dict[Session, Holder] = {}
        self._parked: dict[Session, asyncio.TimerHandle] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter((*self._held, *self._parked))

    @property
    def held(self) -> tuple[Session, ...]:
        """Those that have a connection."""
        return tuple(self._held)

    def replaced_partials(self) -> int:
        """How many partials clients did not get because a newer one came first."""
        return self._replaced_before + sum(session.outbox.replaced_partials for session in self)

    def open(self, holder: Holder) -> Session:
        """A new session."""
        session = self._make()
        self._held[session] = holder
        return session

    async def take_over(self, resume_token: str, holder: Holder) -> Session | None:
        """The session of ``resume_token``, taken from the connection that had it; None where
        it is not known (any more)."""
        session = next((known for known in self if known.resume_token == resume_token), None)
        if session is None:
            return None
        while (before := self._held.get(session)) is not None:
            # A third connection may be faster: then it must let go, too.
            if before is holder or not await before.let_go():
                return None
        if session not in self._parked:
            return None  # it ended meanwhile
        self._parked.pop(session).cancel()
        self._held[session] = holder
        return session

    def park(self, session: Session) -> None:
        """Its connection was cut: keep it for a while."""
        del self._held[session]
        if not session.ending.done():  # else it has closed, and may come for its last final
            session.ending.add_done_callback(lambda _: self._give_up(session))
        loop = asyncio.get_running_loop()
        self._parked[session] = loop.call_later(self._resume_seconds, self._give_up, session)
        if len(self._parked) > self._max_parked:
            self._give_up(next(iter(self._parked)))

    def close(self, session: Session) -> None:
        """Its client will not come back."""
        self._held.pop(session, None)
        self._end(session)

    def give_up_parked(self) -> None:
        """Wait no longer for anybody."""
        for session in tuple(self._parked):
            self._give_up(session)

    def _give_up(self, session: Session) -> None:
        timer = self._parked.pop(session, None)
        if timer is not None:
            timer.cancel()
            self._end(session)

    def _end(self, session: Session) -> None:
        self._replaced_before += session.outbox.replaced_partials
        session.abandon()
