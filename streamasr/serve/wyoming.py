"""The Wyoming server: a TCP port where Home Assistant sends an utterance and gets its text."""

import asyncio
import secrets
from collections.abc import Iterable
from functools import partial
from typing import assert_never

from streamasr import __version__
from streamasr.config import ServeConfig
from streamasr.engine import Engine
from streamasr.engine_stream import PcmFormat
from streamasr.errors import ProtocolError
from streamasr.events import Event
from streamasr.serve.peer import LAST_SEND_SECONDS, Ending, Role, idle_error, until_ending
from streamasr.serve.speaker import Speaker
from streamasr.wire.wyoming import (
    AudioChunk,
    AudioStart,
    AudioStop,
    Command,
    Describe,
    MessageReader,
    Ping,
    Transcribe,
    Transcript,
    command_of,
    error,
    info,
    pong,
)

READ_BYTES = 1 << 16
UNREAD_BYTES = 1 << 20


class WyomingPeer:
    """One connection. ``run`` lives as long as it does."""

    def __init__(
        self,
        first: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine: Engine,
        config: ServeConfig,
    ) -> None:
        """``first`` was read already."""
        self._first = first
        self._reader = reader
        self._writer = writer
        self._engine = engine
        self._config = config
        self._name = f"wyoming {secrets.token_hex(3)}"
        self._messages = MessageReader(config.max_message_bytes)
        self._audio: PcmFormat | None = None
        self._speaker: Speaker | None = None
        self._transcript = Transcript()
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
        """Throw away audio that waits to be recognised, so that the transcript is near."""
        if self._speaker is not None:
            self._speaker.stream.discard_backlog()

    def abort(self) -> None:
        """Drop the connection without another word."""
        self._writer.transport.abort()

    async def run(self) -> Ending | None:
        """Answer until either side ends it, then say what was heard, the error, and close.
        None where the client ended it."""
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
            self._writer.close()

    async def _answer_all(self) -> None:
        data = self._first
        while data:
            for message in self._messages.feed(data):
                command = command_of(message)
                if command is not None:
                    await self._answer(command)
                await asyncio.sleep(0)  # a flood must not hold others up
            await self._writer.drain()
            data = await self._read()

    async def _read(self) -> bytes:
        """More of what the client sends; empty at its end. Raises ProtocolError ``idle``."""
        idle_seconds = self._config.idle_seconds
        try:
            async with asyncio.timeout(idle_seconds):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise idle_error(idle_seconds) from None

    async def _answer(self, command: Command) -> None:
        match command:
            case Describe():
                model = self._engine.recognizer.model_name
                self._write((info(model=model, version=__version__),))
            case Transcribe():
                pass
            case AudioStart():
                await self._stop()
                self._audio = _pcm(command)
            case AudioChunk():
                await self._hear(command)
            case AudioStop():
                await self._stop(even_if_silent=True)
            case Ping():
                self._write((pong(command.text),))
            case unknown:
                assert_never(unknown)

    async def _hear(self, chunk: AudioChunk) -> None:
        if self._audio is not None and self._audio != _pcm(chunk):
            raise ProtocolError("bad_value", "an audio-chunk has another format", fatal=True)
        if self._speaker is None:
            self._audio = _pcm(chunk)
            show = partial(self._show, self._transcript)
            self._speaker = Speaker(self._engine, self._audio, show, self._fail, name=self._name)
        await self._speaker.hear(chunk.payload)

    async def _stop(self, *, even_if_silent: bool = False) -> None:
        """The end of what is spoken: its transcript."""
        if self._speaker is not None and not await self._speaker.finish():
            self._speaker.abandon()
        if self._speaker is not None or even_if_silent:
            self._write(self._transcript.end())
        self._speaker = None
        self._audio = None
        self._transcript = Transcript()

    def _show(self, transcript: Transcript, events: list[Event]) -> None:
        if transcript is self._transcript:  # else it comes too late
            self._write(transcript.hear(events))

    def _fail(self, problem: ProtocolError) -> None:
        self.end(Ending(0, problem))

    def _write(self, messages: Iterable[bytes]) -> None:
        self._writer.writelines(messages)
        if self._writer.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.abort()

    async def _close(self, ending: Ending) -> None:
        await self._stop()
        if ending.error is not None:
            self._write((error(ending.error),))
        self._writer.close()
        closed = asyncio.ensure_future(self._writer.wait_closed())
        await asyncio.wait((closed,), timeout=LAST_SEND_SECONDS)
        if not closed.done():
            self.abort()
        await asyncio.gather(closed, return_exceptions=True)


def _pcm(audio: AudioStart | AudioChunk) -> PcmFormat:
    return PcmFormat(audio.rate_hz, audio.channels)
