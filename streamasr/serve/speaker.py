"""A client's own audio on its way into the engine: the same for every protocol."""

import asyncio
from collections.abc import Callable

from streamasr.config import EndpointConfig
from streamasr.decoder.expected import Expected, Search
from streamasr.engine import Engine, EngineStream, PcmFormat
from streamasr.errors import AudioFormatError, ConfigError, LanguageModelError, ProtocolError
from streamasr.events import EndReason, Event

PIECE_SECONDS = 1.0
LAST_FINAL_SECONDS = 30.0


async def search_for(engine: Engine, expected: Expected) -> Search:
    """The search of a client that expects this; made beside the event loop.

    Raises ProtocolError ``bad_phrases``.
    """
    try:
        return await engine.beside("search", lambda: engine.recognizer.search_for(expected))
    except (ConfigError, LanguageModelError) as error:
        raise ProtocolError("bad_phrases", str(error)) from None


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
        endpoint: EndpointConfig,
        max_alternatives: int | None = None,
        search: Search | None = None,
    ) -> None:
        self._limit_seconds = engine.max_backlog_seconds
        self._fail = fail
        self.stream: EngineStream = engine.open(
            deliver,
            self._translate,
            pcm=pcm,
            endpoint=endpoint,
            max_alternatives=max_alternatives,
            search=search,
        )
        piece_seconds = min(PIECE_SECONDS, self._limit_seconds)
        self._piece_bytes = max(1, int(piece_seconds / self.stream.seconds_of(b"\0")))

    async def hear(self, data: bytes) -> None:
        """Feed the stream, waiting for room: a fast sender is slowed down.

        Raises ProtocolError ``backlog`` where no room came in time.
        """
        for first in range(0, len(data), self._piece_bytes):
            piece = data[first : first + self._piece_bytes]
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
