"""A connection of the native protocol: it authenticates, serves a session, may resume one."""

import asyncio
import logging

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.config import ServeConfig
from streamasr.errors import ProtocolError
from streamasr.serve.peer import (
    LAST_SEND_SECONDS,
    Ending,
    Role,
    check_size,
    ending_for,
    idle_error,
    internal_error,
    log_defect,
)
from streamasr.serve.session import Session
from streamasr.serve.sessions import Sessions
from streamasr.wire.native import Authenticate, Command, Resume, parse_message

TAKEN_OVER = "taken_over"
# What we send where no pong came, and where the client has asked for the end.
_NO_FAULT = (CloseCode.INTERNAL_ERROR, CloseCode.NORMAL_CLOSURE)

log = logging.getLogger(__name__)


class NativePeer:
    """One connection, already let in. ``run`` lives as long as it does."""

    def __init__(
        self, connection: ServerConnection, sessions: Sessions, config: ServeConfig
    ) -> None:
        self._connection = connection
        self._sessions = sessions
        self._config = config
        self._session = sessions.open(self)
        self._is_wanted_elsewhere = asyncio.Event()
        self._has_let_go = asyncio.Event()
        self._is_changing = False
        self._closed: ConnectionClosed | None = None

    @property
    def role(self) -> Role:
        """Whether its session has a stream of its own."""
        return self._session.role

    def end(self, ending: Ending) -> None:
        """Begin to end: last final, error if any, close. The first call counts."""
        self._session.end(ending)

    def discard_backlog(self) -> None:
        """Throw away audio that waits to be recognised, so that the last final is near."""
        self._session.discard_backlog()

    def abort(self) -> None:
        """Drop the connection without another word."""
        self._connection.transport.abort()

    async def let_go(self) -> bool:
        """Leave the session to another connection; False where this one looks for another, too."""
        if self._is_changing:
            return False
        self._is_wanted_elsewhere.set()
        await self._has_let_go.wait()
        return True

    async def run(self) -> Ending | None:
        """Greet, serve until either side ends it, send what is due, close. None where the client
        ended it."""
        self._session.greet()
        if not self._session.ending.done():
            self._session.show_status()
        try:
            while (resume := await self._serve()) is not None:
                await self._change_session(resume)
            ending = self._session.ending
            return ending.result() if ending.done() else None
        finally:
            if self._is_wanted_elsewhere.is_set() or self._was_cut():
                self._sessions.park(self._session)
            else:
                self._sessions.close(self._session)
            self._has_let_go.set()

    async def _change_session(self, resume: Resume) -> None:
        """Go on with the session that ``resume`` names, or with the same where it is gone."""
        self._is_changing = True
        known = await self._sessions.take_over(resume.resume_token, self)
        self._is_changing = False
        if known is not None and not known.resume(resume.after_seq):
            self._sessions.close(known)
            known = None
        if known is None:
            message = "the session to resume is not known any more; this one is new"
            self._session.show_error(ProtocolError("unknown_session", message))
            return
        self._sessions.close(self._session)
        self._session = known

    async def _serve(self) -> Resume | None:
        """Carry messages both ways until the end, or until the client wants another session."""
        session = self._session
        sender = asyncio.create_task(session.outbox.run(self._connection.send))
        receiver = asyncio.create_task(self._receive(session))
        wanted = asyncio.create_task(self._is_wanted_elsewhere.wait())
        try:
            await asyncio.wait(
                (sender, receiver, wanted, session.ending), return_when=asyncio.FIRST_COMPLETED
            )
            if wanted.done():
                sender.cancel()
                await self._hang_up(CloseCode.POLICY_VIOLATION, TAKEN_OVER)
            elif session.ending.done() and not sender.done():
                receiver.cancel()
                await self._close(session, session.ending.result(), sender)
            elif sender.done():
                self.abort()
            if wanted.done() or (sender.done() and not session.ending.done()):
                # What came in before the cut still counts: the receiver ends by itself.
                await asyncio.wait((receiver,))
        finally:
            for task in (sender, receiver, wanted):
                task.cancel()
            for result in await asyncio.gather(sender, receiver, wanted, return_exceptions=True):
                log_defect(result)
        if receiver.cancelled() or receiver.exception() is not None:
            return None
        return receiver.result()

    async def _receive(self, session: Session) -> Resume | None:
        """Act on messages until the connection ends, or one that asks for another session."""
        idle_seconds = self._config.idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle_seconds if session.role == "speaker" else None):
                    message = await self._connection.recv()
            except ConnectionClosed as closed:
                self._closed = closed
                return None
            except TimeoutError:
                session.end(ending_for(idle_error(idle_seconds)))
                return None
            command: bytes | Command | None = None
            try:
                check_size(message, self._config.max_message_bytes)
                command = message if isinstance(message, bytes) else parse_message(message)
                if isinstance(command, Resume) and session.is_fresh:
                    return command
                await session.take(command)
            except ProtocolError as error:
                if error.fatal:
                    session.end(ending_for(error))
                    return None
                session.show_error(error)
            except Exception as defect:
                if (internal := internal_error(defect)) is not None:
                    session.end(ending_for(internal))
                return None
            if not isinstance(command, Authenticate | Resume):
                session.received += 1
            await asyncio.sleep(0)  # a flood must not outrun its answers, nor hold others up

    def _was_cut(self) -> bool:
        """Whether the connection ended as a lost one does: without a close frame of the client,
        and for no fault of its own. Then it may come back, also for the answer to its close."""
        ending = self._session.ending
        if ending.done() and ending.result().close_code != CloseCode.NORMAL_CLOSURE:
            return False
        sent = None if self._closed is None else self._closed.sent
        is_fault = sent is not None and sent.code not in _NO_FAULT
        return not is_fault and self._connection.close_code in (None, CloseCode.ABNORMAL_CLOSURE)

    async def _hang_up(self, close_code: int, reason: str) -> None:
        """Close; a peer whose network has died takes not even the close frame."""
        closing = asyncio.create_task(self._connection.close(close_code, reason))
        await asyncio.wait((closing,), timeout=LAST_SEND_SECONDS)
        if not closing.done():
            self.abort()
        log_defect((await asyncio.gather(closing, return_exceptions=True))[0])

    async def _close(self, session: Session, ending: Ending, sender: "asyncio.Task[None]") -> None:
        """Last final, then the error, then the close; each under its own time limit."""
        if not await session.flush():
            log.warning("a last final took too long")
        error = ending.error
        if error is not None:
            session.outbox.put_last(lambda: session.outbox.encoder.encode_error(error))
        all_sent = asyncio.create_task(session.outbox.idle())
        await asyncio.wait(
            (all_sent, sender),
            timeout=LAST_SEND_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if all_sent.done():
            await self._hang_up(ending.close_code, ending.reason)
            return
        # A send is stuck, or has failed, and would hold up the closing handshake, too.
        log.info("a client did not read its last messages")
        all_sent.cancel()
        self.abort()
