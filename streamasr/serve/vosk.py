"""A connection of Vosk's protocol: one reply to every message but ``config``, in order."""

import asyncio
import secrets

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.config import ServeConfig
from streamasr.decoder.expected import Expected
from streamasr.engine import Engine
from streamasr.engine_stream import PcmFormat, Wishes
from streamasr.serve.peer import (
    LAST_SEND_SECONDS,
    Ending,
    Role,
    check_size,
    ending_for,
    idle_error,
    until_ending,
)
from streamasr.serve.speaker import OwnSearch, Speaker
from streamasr.wire.vosk import Config, Eof, Replies, Reset, parse_message


class VoskPeer:
    """One connection. ``run`` lives as long as it does."""

    def __init__(
        self,
        connection: ServerConnection,
        engine: Engine,
        config: ServeConfig,
        first: str | None = None,
    ) -> None:
        """``first`` was received already."""
        self._connection = connection
        self._engine = engine
        self._config = config
        self._first = first
        self._audio = Config()
        self._own_search = OwnSearch(engine)
        self._replies = Replies(words=True, max_alternatives=0)
        self._speaker: Speaker | None = None
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    @property
    def role(self) -> Role:
        """It never hears the daemon's microphone."""
        return "speaker"

    def end(self, ending: Ending) -> None:
        """Begin to end. The first call counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def discard_backlog(self) -> None:
        """Throw away audio that waits to be recognised, so that the last final is near."""
        if self._speaker is not None:
            self._speaker.stream.discard_backlog()

    def abort(self) -> None:
        """Drop the connection without another word."""
        self._connection.transport.abort()

    async def run(self) -> Ending | None:
        """Answer until either side ends it, then say what was heard last, and close. None where
        the client ended it."""
        try:
            await until_ending(self._answer_all, self._ending)
            if not self._ending.done():
                return None
            await self._close(self._ending.result())
            return self._ending.result()
        finally:
            self._ending.cancel()
            if self._speaker is not None:
                self._speaker.abandon()

    async def _answer_all(self) -> None:
        message: str | bytes = self._first or await self._receive()
        while not self._ending.done():
            check_size(message, self._config.max_message_bytes)
            reply = await self._answer(message)
            if reply is not None:
                await self._connection.send(reply)
            if not self._ending.done():
                message = await self._receive()

    async def _receive(self) -> str | bytes:
        """Raises ProtocolError ``idle``."""
        idle_seconds = self._config.idle_seconds
        try:
            async with asyncio.timeout(idle_seconds):
                return await self._connection.recv()
        except TimeoutError:
            raise idle_error(idle_seconds) from None

    async def _answer(self, message: str | bytes) -> str | None:
        """The reply; None for a config. Raises ProtocolError."""
        command = message if isinstance(message, bytes) else parse_message(message)
        match command:
            case bytes():
                await self._hear(command)
                return self._replies.audio()
            case Config():
                await self._configure(command)
                return None
            case Reset():
                if self._speaker is not None:
                    await self._speaker.finalize()
                return self._replies.end()
            case Eof():
                if self._speaker is not None:
                    await self._speaker.finish()
                self.end(Ending(CloseCode.NORMAL_CLOSURE))
                return self._replies.end()

    async def _configure(self, audio: Config) -> None:
        """Acts only before the first audio, as there."""
        if self._speaker is None:
            await self._own_search.expect(Expected({}, audio.phrases))
            self._audio = audio
            self._replies = Replies(words=audio.words, max_alternatives=audio.max_alternatives)

    async def _hear(self, data: bytes) -> None:
        if self._speaker is None:
            search = await self._own_search.take()
            self._speaker = Speaker(
                self._engine,
                PcmFormat(self._audio.sample_rate_hz),
                self._replies.hear,
                lambda error: self.end(ending_for(error)),
                name=f"vosk {secrets.token_hex(3)}",
                wishes=Wishes(
                    max_alternatives=self._audio.max_alternatives,
                    expected=self._own_search.expected,
                ),
                search=search,
            )
        await self._speaker.hear(data)
        await self._speaker.heard()

    async def _close(self, ending: Ending) -> None:
        """What was heard last and was not told yet, the error if any, the close."""
        if self._speaker is not None:
            await self._speaker.finish()
        last = None
        if ending.error is not None:
            last = self._replies.refuse(ending.error)
        elif self._replies.has_final:
            last = self._replies.end()
        try:
            if last is not None:
                async with asyncio.timeout(LAST_SEND_SECONDS):
                    await self._connection.send(last)
        except ConnectionClosed:
            return
        except TimeoutError:
            self.abort()
            return
        await self._connection.close(ending.close_code, ending.reason)
