"""One viewer or speaker, over as many connections as it takes."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.client.connection import (
    DEFAULT_URL,
    AccessError,
    checked_token,
    open_connection,
    receive,
    shut,
    tls_context,
    token_refused,
)
from streamasr.client.incoming import ClientEvent, Connected, Incoming, Lost
from streamasr.client.outgoing import Outgoing
from streamasr.errors import AddressError, ProtocolError, StreamFinished
from streamasr.events import Final, Partial, SpeechStarted
from streamasr.wire.native_reader import (
    CLOSE,
    FINALIZE,
    KEEPALIVE,
    MUTE,
    UNMUTE,
    Finalized,
    Hello,
    Received,
    Resumed,
    ServerError,
    Status,
    encode_config,
    encode_resume,
    read_message,
)

PROTOCOL_VERSION = 1
HELLO_SECONDS = 10.0
GONE = "the daemon is gone"
REFUSED = "the daemon closed the connection: {}"
FIRST_RETRY_SECONDS = 0.5
SLOWEST_RETRY_SECONDS = 8.0
PIECE_BYTES = 1 << 16
WINDOW_BYTES = 1 << 17
# Eight minutes of speech at 16 kHz: acknowledgements are 10 s apart, and a recording may be
# sent many times as fast as it sounds.
UNACKNOWLEDGED_BYTES = 1 << 24
# After these the session is over, but another may be had. The others would only come again.
WORTH_ANOTHER_SESSION = ("idle", "too_many_connections", "too_slow")


_Arrival = tuple[ClientConnection, list[Received]]


def retry_pauses(slowest_seconds: float = SLOWEST_RETRY_SECONDS) -> Iterator[float]:
    """Seconds to wait before each attempt to connect again; many clients do not come at once."""
    seconds = min(FIRST_RETRY_SECONDS, slowest_seconds)
    while True:
        yield seconds * random.uniform(0.75, 1.25)
        seconds = min(2 * seconds, slowest_seconds)


class Client:
    """One viewer or speaker, over as many connections as it takes.

    ``config`` makes it a speaker, who gets only events of its own audio: ``{}`` for the
    server's defaults, else as the protocol names them. ``ca_file`` holds the only
    certificates to trust for ``wss://``; ``ssl_context`` says all about TLS instead. After a loss
    it waits 0.5 s, then twice as long each time, up to ``slowest_retry_seconds``.

    Entering connects; it raises AddressError where the first connection fails. The iteration
    and the methods raise AddressError where the token is refused later and ProtocolError
    after an error of the server that would come again. A partial that was not read when a
    newer one comes is dropped; 10,000 other events wait, then reading stops.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        config: Mapping[str, object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        slowest_retry_seconds: float = SLOWEST_RETRY_SECONDS,
    ) -> None:
        self._url = url
        self._token = None if token is None else checked_token(token, "the token")
        self._tls = tls_context(url, ssl_context, ca_file)
        self._slowest_retry_seconds = slowest_retry_seconds
        self._is_speaker = config is not None
        self._outgoing = Outgoing(None if config is None else encode_config(config))
        self._session = ""
        self._resume_token: str | None = None
        self._last_seq = 0
        self._is_closing = False
        self._is_connected = False
        self._running: asyncio.Task[None] | None = None
        self._changed = _Changed()
        self._incoming = Incoming(self._changed.tell)

    async def __aenter__(self) -> Self:
        self._first_connection, early = await self._arrive()
        self._running = asyncio.create_task(self._run(self._first_connection, early))
        self._running.add_done_callback(lambda _: self._changed.tell())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            self._is_closing = True
            await asyncio.wait((self._running,))
            if not self._running.cancelled():
                self._running.exception()  # was raised where somebody waited, or nobody cared
            await shut(self._first_connection)  # who leaves at once has not begun to run

    async def send(self, pcm: bytes | bytearray | memoryview) -> None:
        """Speak. Returns once the audio is queued, which waits while there is no connection or
        while ``UNACKNOWLEDGED_BYTES`` wait to be acknowledged. Raises StreamFinished after
        ``close()``."""
        self._is_speaker = True
        data = bytes(pcm)
        for first in range(0, len(data), PIECE_BYTES):
            await self._put(data[first : first + PIECE_BYTES])

    async def finalize(self) -> None:
        """End the utterance: its final comes, then ``Finalized``."""
        await self._put(FINALIZE)

    async def keepalive(self) -> None:
        """A sign of life while there is nothing to say."""
        await self._put(KEEPALIVE)

    async def mute(self) -> None:
        """Have the daemon close its microphone, for everybody; a ``Status`` tells when it has, a
        ``ServerError`` with the code ``no_microphone`` that it hears none."""
        await self._put(MUTE)

    async def unmute(self) -> None:
        """Have the daemon open its microphone again; answered as ``mute`` is."""
        await self._put(UNMUTE)

    async def close(self) -> None:
        """Nothing more will be sent: the iteration ends after the last final."""
        if not self._is_closing:
            self._is_closing = True
            self._outgoing.put(CLOSE)
            self._changed.tell()

    def __aiter__(self) -> AsyncIterator[ClientEvent]:
        return self

    async def __anext__(self) -> ClientEvent:
        await self._changed.until(lambda: self._incoming.has_next() or self._is_over())
        if self._incoming.has_next():
            return self._incoming.take()
        self._raise_failure()
        raise StopAsyncIteration

    async def _put(self, message: str | bytes) -> None:
        await self._changed.until(
            lambda: (
                self._is_closing
                or self._is_over()
                or (self._is_connected and self._outgoing.held_bytes < UNACKNOWLEDGED_BYTES)
            )
        )
        self._raise_failure()
        if self._is_closing:
            raise StreamFinished("the client was closed; nothing can be sent any more")
        self._outgoing.put(message)
        self._changed.tell()

    def _is_over(self) -> bool:
        if self._running is None:
            raise RuntimeError("use the client in `async with`")
        return self._running.done()

    def _raise_failure(self) -> None:
        if self._is_over() and self._running and not self._running.cancelled():
            self._running.result()

    # ---- One connection after the other. ----------------------------------------------------

    async def _run(self, connection: ClientConnection, early: list[Received]) -> None:
        loop = asyncio.get_running_loop()
        slowest_seconds = self._slowest_retry_seconds
        pauses = retry_pauses(slowest_seconds)
        while True:
            begin = loop.time()
            try:
                reason = await self._converse(connection, early)
            except AccessError:
                raise
            except AddressError as refusal:
                self._resume_token, reason = None, str(refusal)
            if reason is None:
                return
            self._incoming.put(Lost(reason))
            if loop.time() - begin > slowest_seconds:
                pauses = retry_pauses(slowest_seconds)
            connection, early = await self._arrive_again(pauses)

    async def _arrive_again(self, pauses: Iterator[float]) -> _Arrival:
        for seconds in pauses:
            await asyncio.sleep(seconds)
            try:
                return await self._arrive()
            except AccessError:
                raise
            except AddressError:
                continue
        raise AssertionError("pauses never end")

    async def _arrive(self) -> _Arrival:
        """A connection in its session, and what was read already. Raises AddressError."""
        connection = await open_connection(self._url, self._token, self._tls)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                early = await self._enter_session(connection)
        except (TimeoutError, ConnectionClosed, _NoHello):
            connection.transport.abort()  # a close frame would end what may be resumed
            raise AddressError(
                f"{self._url} does not speak streamasr's protocol {PROTOCOL_VERSION}"
            ) from None
        except BaseException:
            await shut(connection)
            raise
        return connection, early

    async def _enter_session(self, connection: ClientConnection) -> list[Received]:
        """Resume the session before, or begin a new one. What was read and not shown comes
        back: of a resumed session everything that was missed, for else it is asked again."""
        hello = await self._receive_first(connection)
        if not isinstance(hello.message, Hello) or hello.message.protocol != PROTOCOL_VERSION:
            raise _NoHello
        early: list[Received] = []
        if self._resume_token is not None:
            await connection.send(encode_resume(self._resume_token, self._last_seq))
            while True:
                early.append(await self._receive_first(connection))
                match early[-1]:
                    case Received(self._session, _, Resumed(received)):
                        self._outgoing.resume(received)
                        self._connected(Connected(self._session, resumed=True))
                        return early
                    case Received(hello.session, _, ServerError()):
                        early.pop()
                        break
        else:
            # The first status, or why the connection will end at once.
            early.append(await self._receive_first(connection))
        self._session, self._last_seq = hello.session, hello.seq
        self._resume_token = hello.message.resume_token
        self._outgoing.begin_session(keep=self._resume_token is not None)
        clocks = (e.message.audio_seconds for e in early if isinstance(e.message, Status))
        self._connected(Connected(self._session, audio_seconds=next(clocks, None)))
        return early

    async def _receive_first(self, connection: ClientConnection) -> Received:
        """One message of the beginning. Raises what a fatal error means."""
        try:
            received = read_message(await connection.recv())
        except ProtocolError:
            raise _NoHello from None
        if isinstance(received.message, ServerError) and received.message.fatal:
            raise self._fatal(received.message)
        return received

    def _connected(self, event: Connected) -> None:
        self._is_connected = True
        self._incoming.put(event)

    async def _converse(self, connection: ClientConnection, early: list[Received]) -> str | None:
        """Until the connection ends: why it was lost, None where it ended as it should. Raises
        AddressError or ProtocolError where no other connection would help."""
        sending = asyncio.create_task(self._send_all(connection))
        try:
            for received in early:
                self._take(received)
            while True:
                await self._changed.until(self._incoming.has_room)
                self._take(read_message(await receive(connection)))
        except TimeoutError:
            connection.transport.abort()  # a close frame would end what may be resumed
            return GONE
        except ConnectionClosed:
            if self._is_closing and connection.close_code == CloseCode.NORMAL_CLOSURE:
                return None
            reason = None
            if connection.close_code == CloseCode.MESSAGE_TOO_BIG:
                reason = "message_too_big"  # also where the websocket layer said it, with no reason
            elif connection.close_code == CloseCode.POLICY_VIOLATION:
                reason = connection.close_reason
            if reason:
                raise self._fatal(ServerError(reason, REFUSED.format(reason), True)) from None
            return GONE
        finally:
            self._is_connected = False
            sending.cancel()
            try:  # not suppress: a cancellation of our own must go on
                await asyncio.gather(sending, return_exceptions=True)
            finally:
                await shut(connection)

    async def _send_all(self, connection: ClientConnection) -> None:
        """Send what is queued. A busy server reads late: at most two windows are under way, or
        the answers to its pings would wait behind them until it gives us up."""
        sent_bytes = 0
        pong: Awaitable[float] | None = None
        while True:
            await self._changed.until(self._outgoing.has_next)
            message = self._outgoing.take()
            await connection.send(message)
            self._changed.tell()
            sent_bytes += len(message)
            if sent_bytes >= WINDOW_BYTES:
                if pong is not None:
                    await pong
                pong, sent_bytes = await connection.ping(), 0

    def _take(self, received: Received) -> None:
        """Act on one message; what was seen before or is not of this session is nothing."""
        if received.session != self._session or received.seq <= self._last_seq:
            return
        self._last_seq = received.seq
        match received.message:
            case Status() as status:
                if status.received is not None:
                    self._outgoing.acknowledge(status.received)
                self._incoming.put(status)
            case ServerError(fatal=True) as error:
                raise self._fatal(error)
            case SpeechStarted() | Partial() | Final() as event:
                # Before its first audio a speaker's session hears the daemon's microphone.
                if self._outgoing.has_spoken or not self._is_speaker:
                    self._incoming.put(event)
            case Finalized() | ServerError() as event:
                self._incoming.put(event)
            case _:
                pass

    def _fatal(self, error: ServerError) -> Exception:
        """AddressError where another session may be had, unless it is about the token."""
        if error.code == "unauthorized":
            return token_refused(self._url, self._token)
        if error.code in WORTH_ANOTHER_SESSION:
            return AddressError(error.message)
        return ProtocolError(error.code, error.message, fatal=True)


class _NoHello(Exception):  # noqa: N818  it never leaves this module
    """Whoever answers does not speak the protocol."""


class _Changed:
    """Wakes whoever waits for something to become true."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something may be true now."""
        self._event.set()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Return once it is."""
        while not is_true():
            self._event.clear()
            await self._event.wait()
