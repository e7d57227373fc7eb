"""A client's own audio on its way into the engine: the same for every protocol."""

import asyncio
from collections.abc import Callable
from functools import partial

from streamasr.decoder.expected import Expected, Search
from streamasr.engine import Engine
from streamasr.engine_stream import EngineStream, PcmFormat, Wishes
from streamasr.errors import AudioFormatError, ConfigError, LanguageModelError, ProtocolError
from streamasr.events import EndReason, Event
from streamasr.recognizer import Recognizer

LAST_FINAL_SECONDS = 30.0


class OwnSearch:
    """What one client expects, as a search of the engine's recognizer."""

    def __init__(self, engine: Engine) -> None:
        self.expected = Expected()
        self._engine = engine
        self._recognizer = engine.recognizer
        self._search: Search | None = None

    async def expect(self, expected: Expected) -> None:
        """Expect this from now on. Raises ProtocolError ``bad_phrases``; nothing changes then."""
        self._search, self._recognizer = await search_for(self._engine, expected)
        self.expected = expected

    async def take(self) -> Search | None:
        """The search of the recognizer that the engine has now. Raises ProtocolError
        ``bad_phrases`` where another one took its place that cannot hear what is expected."""
        if self.expected == Expected():
            return None
        if self._recognizer is not self._engine.recognizer:
            await self.expect(self.expected)
        search, self._search = self._search, None  # it would hold a recognizer that is replaced
        return search


async def search_for(engine: Engine, expected: Expected) -> tuple[Search | None, Recognizer]:
    """The search of a client that expects this, made beside the event loop, and the recognizer
    that it belongs to: the one that the engine has when this returns.

    Raises ProtocolError ``bad_phrases``.
    """
    while True:
        recognizer = engine.recognizer
        try:
            search = await engine.beside("search", partial(recognizer.search_for, expected))
        except (ConfigError, LanguageModelError) as error:
            raise ProtocolError("bad_phrases", str(error)) from None
        if recognizer is engine.recognizer:
            return search, recognizer


class Speaker:
    """One stream, fed with the bytes of one client. ``deliver`` gets its events, and ``fail``
    what is wrong with its audio (``bad_audio``) or with us (``internal``, fatal)."""

    def __init__(
        self,
        engine: Engine,
        pcm: PcmFormat,
        deliver: Callable[[list[Event]], None],
        fail: Callable[[ProtocolError], None],
        *,
        name: str,
        wishes: Wishes | None = None,
        search: Search | None = None,
    ) -> None:
        self._limit_seconds = engine.max_backlog_seconds
        self._fail = fail
        self.stream: EngineStream = engine.open(
            deliver,
            self._translate,
            name=name,
            pcm=pcm,
            wishes=wishes,
            search=search,
        )

    async def hear(self, data: bytes) -> None:
        """Feed the stream, waiting for room: a fast sender is slowed down.

        Raises ProtocolError ``backlog`` where no room came in time.
        """
        for piece in self.stream.pieces(data):
            try:
                async with asyncio.timeout(self._limit_seconds):
                    await asyncio.wrap_future(self.stream.room_for(piece))
            except TimeoutError:
                pass  # feed says what is wrong
            self.stream.feed(piece)

    def heard(self) -> "asyncio.Future[None]":
        """Resolved when the events of everything fed so far were delivered."""
        return asyncio.wrap_future(self.stream.heard())

    def finalize(self) -> "asyncio.Future[None]":
        """End the utterance after what was fed; resolved when its events were delivered."""
        return asyncio.wrap_future(self.stream.finalize())

    async def finish(self, reason: EndReason = "eof") -> bool:
        """End the stream and wait for its last event; False where that takes too long."""
        last = asyncio.wrap_future(self.stream.finish(reason))
        await asyncio.wait((last,), timeout=LAST_FINAL_SECONDS)
        return last.done()

    def abandon(self) -> None:
        """Nobody waits for this stream any more."""
        self.stream.discard_backlog()
        self.stream.finish()

    def _translate(self, failure: Exception) -> None:
        if isinstance(failure, AudioFormatError):
            self._fail(ProtocolError("bad_audio", str(failure)))
        else:
            message = "recognition failed; see the daemon's log"
            self._fail(ProtocolError("internal", message, fatal=True))
