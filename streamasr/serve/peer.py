"""What every connection has in common, whichever protocol it speaks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.errors import ProtocolError
from streamasr.wire.native import MicrophoneState

Role = Literal["speaker", "viewer"]

SetMuted = Callable[[bool], bool]
"""Closes the daemon's microphone, or opens it again; the status tells when it is done. False
where nothing was to be done, and nobody is told."""

LAST_SEND_SECONDS = 2.0

CLOSE_CODES = {
    "message_too_big": CloseCode.MESSAGE_TOO_BIG,
    "too_many_connections": CloseCode.TRY_AGAIN_LATER,
    "internal": CloseCode.INTERNAL_ERROR,
}

log = logging.getLogger(__name__)

_EXPECTED = (ConnectionClosed, ConnectionError, ProtocolError)


@dataclass(frozen=True, slots=True)
class MicrophoneStatus:
    """The daemon's own input: ``lag_ms`` not recognised yet, ``dropped_ms`` lost so far,
    ``audio_seconds`` taken in, ``clipped_samples`` at full scale, ``overflows`` of PortAudio's
    buffer, ``drift_ppm`` that its clock is too fast (None before that is known), ``is_changing``
    where a mute or unmute is not carried out yet."""

    state: MicrophoneState = "none"
    lag_ms: int = 0
    dropped_ms: int = 0
    audio_seconds: float = 0.0
    clipped_samples: int = 0
    overflows: int = 0
    drift_ppm: float | None = None
    is_changing: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ends."""

    close_code: int
    error: ProtocolError | None = None

    @property
    def reason(self) -> str:
        """What the close frame says."""
        return "" if self.error is None else self.error.code


def ending_for(error: ProtocolError) -> Ending:
    """How a connection ends that made this error."""
    return Ending(CLOSE_CODES.get(error.code, CloseCode.POLICY_VIOLATION), error)


class Peer(Protocol):
    """One connection, as the server sees it."""

    @property
    def role(self) -> Role: ...

    def end(self, ending: Ending) -> None:
        """Begin to end: last final, error if any, close. The first call counts."""

    def discard_backlog(self) -> None:
        """Throw away audio that waits to be recognised, so that the last final is near."""

    def abort(self) -> None:
        """Drop the connection without another word."""

    async def run(self) -> Ending | None:
        """Serve as long as the connection lives; None where the client ended it."""


def check_size(message: str | bytes, limit_bytes: int) -> None:
    """Raises ProtocolError ``message_too_big``."""
    size_bytes = len(message if isinstance(message, bytes) else message.encode())
    if size_bytes > limit_bytes:
        raise ProtocolError(
            "message_too_big",
            f"a message of {size_bytes} bytes is larger than {limit_bytes}; send less at once",
            fatal=True,
        )


async def until_ending(work: Callable[[], Awaitable[None]], ending: asyncio.Future[Ending]) -> None:
    """Do ``work`` until it is done or ``ending`` is decided; an error decides it. Defects are
    logged, and ``internal`` for the peer."""
    task = asyncio.ensure_future(work())
    await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    error = result if isinstance(result, ProtocolError) else internal_error(result)
    if error is not None and not ending.done():
        ending.set_result(ending_for(error))


def internal_error(result: object) -> ProtocolError | None:
    """What a peer is told of a defect, which is logged; None where it is none."""
    if not log_defect(result):
        return None
    return ProtocolError("internal", "it failed here; see the daemon's log", fatal=True)


def log_defect(result: object) -> bool:
    """Log what should not have happened, and whether it has; peers that go away may."""
    if not isinstance(result, Exception) or isinstance(result, _EXPECTED):
        return False
    log.error("a connection failed", exc_info=result)
    return True


def idle_error(idle_seconds: float) -> ProtocolError:
    """For a speaker that neither speaks nor sends a keepalive."""
    return ProtocolError("idle", f"nothing was sent for {idle_seconds:g} s", fatal=True)
