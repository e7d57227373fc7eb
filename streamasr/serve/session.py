"""One connection of the native protocol, from hello to close.

A connection starts as a viewer of the daemon's microphone. Its first binary message makes
it a speaker: it gets a stream of its own and hears only that from then on.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.config import EndpointConfig, ServeConfig
from streamasr.decoder.expected import HOT_WEIGHT, Expected, Search
from streamasr.engine import Engine, EngineStream, PcmFormat
from streamasr.errors import AudioFormatError, ConfigError, LanguageModelError, ProtocolError
from streamasr.events import EndReason, Event
from streamasr.serve.outbox import Outbox
from streamasr.wire.native import (
    Close,
    Config,
    Encoder,
    Finalize,
    KeepAlive,
    MicrophoneState,
    parse_message,
)

LAST_FINAL_SECONDS = 30.0
LAST_SEND_SECONDS = 2.0
PIECE_SECONDS = 1.0

CLOSE_CODES = {
    "message_too_big": CloseCode.MESSAGE_TOO_BIG,
    "too_many_connections": CloseCode.TRY_AGAIN_LATER,
    "internal": CloseCode.INTERNAL_ERROR,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MicrophoneStatus:
    """The daemon's own input: ``lag_ms`` not recognised yet, ``dropped_ms`` lost so far."""

    state: MicrophoneState = "none"
    lag_ms: int = 0
    dropped_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why a connection ends."""

    close_code: int
    end_reason: EndReason = "eof"
    error: ProtocolError | None = None


class Session:
    """One peer. ``run`` lives as long as the connection."""

    def __init__(
        self,
        connection: ServerConnection,
        engine: Engine,
        config: ServeConfig,
        endpoint: EndpointConfig,
        microphone: Callable[[], MicrophoneStatus],
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._config = config
        self._endpoint = endpoint
        self._microphone = microphone
        self._audio = Config()
        self._search: Search | None = None
        self._stream: EngineStream | None = None
        self._finalizing: asyncio.Future[None] | None = None
        self._outbox = Outbox(Encoder(secrets.token_hex(8)), config.viewer_queue_finals)
        self._ending: asyncio.Future[_Ending] = asyncio.get_running_loop().create_future()

    @property
    def is_viewer(self) -> bool:
        """Whether it listens to the daemon's microphone."""
        return self._stream is None

    def show(self, events: list[Event]) -> None:
        """Send events of the stream this peer listens to."""
        for event in events:
            if not self._outbox.put_event(event):
                self._end_too_slow()

    def show_status(self) -> None:
        """Send a status: of the microphone, and of this peer's own stream where it has one."""
        status = self._microphone()
        lag_ms, dropped_ms = status.lag_ms, status.dropped_ms
        if self._stream is not None:
            lag_ms = round(self._stream.backlog_seconds * 1000)
            dropped_ms = round(self._stream.discarded_seconds * 1000)
        self._put(
            lambda: self._outbox.encoder.encode_status(
                status.state, lag_ms=lag_ms, dropped_ms=dropped_ms
            )
        )

    def end(self, close_code: int, error: ProtocolError | None = None) -> None:
        """Begin to end: last final, error if any, close. The first call counts."""
        if not self._ending.done():
            self._ending.set_result(_Ending(close_code, error=error))

    def discard_backlog(self) -> None:
        """Throw away audio that waits to be recognised, so that the last final is near."""
        if self._stream is not None:
            self._stream.discard_backlog()

    def abort(self) -> None:
        """Drop the connection without another word."""
        self._connection.transport.abort()

    async def run(self, refusal: ProtocolError | None = None) -> None:
        """Greet, serve until either side ends it, send what is due, close."""
        self._put(
            lambda: self._outbox.encoder.encode_hello(
                model=self._engine.recognizer.model_name,
                languages=("en",),
                sample_rate_hz=self._engine.recognizer.sample_rate_hz,
            )
        )
        if refusal is not None:
            self._end_with(refusal)
        else:
            self.show_status()
        sender = asyncio.create_task(self._outbox.run(self._connection.send))
        receiver = asyncio.create_task(self._receive_all())
        try:
            await asyncio.wait(
                (sender, receiver, self._ending), return_when=asyncio.FIRST_COMPLETED
            )
            if self._ending.done() and not sender.done():
                receiver.cancel()
                await self._close(self._ending.result())
        finally:
            self._ending.cancel()
            for task in (sender, receiver):
                task.cancel()
            if self._stream is not None:
                self._stream.discard_backlog()
                self._stream.finish()
            for result in await asyncio.gather(sender, receiver, return_exceptions=True):
                self._log_defect(result)

    async def _receive_all(self) -> None:
        async for message in self._connection:
            try:
                await self._receive(message)
            except ProtocolError as error:
                if error.fatal:
                    self._end_with(error)
                    return
                self._put_error(error)
                await asyncio.sleep(0)  # a flood of mistakes must not outrun its answers

    async def _receive(self, message: str | bytes) -> None:
        limit_bytes = self._config.max_message_bytes
        size_bytes = len(message if isinstance(message, bytes) else message.encode())
        if size_bytes > limit_bytes:
            raise ProtocolError(
                "message_too_big",
                f"a message of {size_bytes} bytes is larger than {limit_bytes}; send less at once",
                fatal=True,
            )
        if isinstance(message, bytes):
            await self._hear(message)
            return
        match parse_message(message):
            case Config() as audio:
                await self._configure(audio)
            case Finalize():
                await self._finalize()
            case KeepAlive():
                pass
            case Close():
                self.end(CloseCode.NORMAL_CLOSURE)
            case unknown:
                assert_never(unknown)

    async def _configure(self, audio: Config) -> None:
        if self._stream is not None:
            raise ProtocolError("config_after_audio", "config must come before the first audio")
        expected = Expected(
            {
                phrase: HOT_WEIGHT if weight is None else weight
                for phrase, weight in audio.hotwords.items()
            },
            audio.phrases,
        )
        try:
            self._search = await asyncio.to_thread(self._engine.recognizer.search_for, expected)
        except (ConfigError, LanguageModelError) as error:
            raise ProtocolError("bad_phrases", str(error)) from None
        self._audio = audio
        self._outbox.encoder.words = audio.words
        self._outbox.partial_interval_seconds = audio.partial_interval_ms / 1000

    async def _finalize(self) -> None:
        """Queue the end of the utterance; one at a time, so that a flood of them is bounded."""
        if self._stream is None:
            raise ProtocolError("no_audio", "finalize ends your own utterance; send audio first")
        if self._finalizing is not None:
            await asyncio.wait((self._finalizing,))
        self._finalizing = asyncio.wrap_future(self._stream.finalize())
        self._finalizing.add_done_callback(
            lambda _: self._put(self._outbox.encoder.encode_finalized)
        )

    async def _hear(self, data: bytes) -> None:
        """Feed the speaker's stream, waiting for room: a fast sender is slowed down."""
        if self._stream is None:
            self._stream = self._become_speaker()
        stream = self._stream
        limit_seconds = self._engine.max_backlog_seconds
        piece_bytes = max(1, int(self._audio.bytes_per_second * min(PIECE_SECONDS, limit_seconds)))
        for first in range(0, len(data), piece_bytes):
            piece = data[first : first + piece_bytes]
            try:
                async with asyncio.timeout(limit_seconds):
                    await asyncio.wrap_future(stream.room_for(piece))
            except TimeoutError:
                pass  # feed says what is wrong
            stream.feed(piece)

    def _become_speaker(self) -> EngineStream:
        self._outbox.clear()
        return self._engine.open(
            self.show,
            self._fail,
            pcm=PcmFormat(self._audio.sample_rate_hz, self._audio.channels, self._audio.encoding),
            endpoint=self._audio.endpoint_over(self._endpoint),
            max_alternatives=self._audio.max_alternatives,
            search=self._search,
        )

    def _fail(self, failure: Exception) -> None:
        if isinstance(failure, AudioFormatError):
            self._put_error(ProtocolError("bad_audio", str(failure)))
        else:
            self._end_with(
                ProtocolError("internal", "recognition failed; see the daemon's log", fatal=True)
            )

    def _put(self, write: Callable[[], str]) -> None:
        if not self._outbox.put(write):
            self._end_too_slow()

    def _put_error(self, error: ProtocolError) -> None:
        self._put(lambda: self._outbox.encoder.encode_error(error))

    def _end_with(self, error: ProtocolError) -> None:
        self.end(CLOSE_CODES.get(error.code, CloseCode.POLICY_VIOLATION), error)

    def _end_too_slow(self) -> None:
        message = f"more than {self._config.viewer_queue_finals} messages wait; read faster"
        self._end_with(ProtocolError("too_slow", message, fatal=True))

    async def _close(self, ending: _Ending) -> None:
        """Last final, then the error, then the close; each under its own time limit."""
        error = ending.error
        if self._stream is not None:
            try:
                async with asyncio.timeout(LAST_FINAL_SECONDS):
                    await asyncio.wrap_future(self._stream.finish(ending.end_reason))
            except TimeoutError:
                log.warning("a last final took longer than %g s", LAST_FINAL_SECONDS)
        if error is not None:
            if error.code == "too_slow":
                self._outbox.clear()
            self._outbox.put(lambda: self._outbox.encoder.encode_error(error))
        try:
            async with asyncio.timeout(LAST_SEND_SECONDS):
                await self._outbox.idle()
        except TimeoutError:
            # A send is stuck and would hold up the closing handshake, too.
            log.info("a peer did not read its last messages")
            self.abort()
            return
        await self._connection.close(ending.close_code, error.code if error is not None else "")

    @staticmethod
    def _log_defect(result: object) -> None:
        if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
            log.error("a connection failed", exc_info=result)
