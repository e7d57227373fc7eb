"""One client of the native protocol, through one connection or, where it is cut, several.

A session starts as a viewer of the daemon's microphone. Its first binary message makes it a
speaker: it gets a stream of its own and hears only that from then on. It knows no socket: a
connection (``native.py``) gives it messages and empties its outbox.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import assert_never

from streamasr.config import ServeConfig
from streamasr.decoder.expected import HOT_WEIGHT, Expected
from streamasr.engine import Engine
from streamasr.engine_stream import PcmFormat, Wishes
from streamasr.errors import ProtocolError
from streamasr.events import Event
from streamasr.serve.outbox import Outbox
from streamasr.serve.peer import Ending, MicrophoneStatus, Role, SetMuted, ending_for
from streamasr.serve.speaker import OwnSearch, Speaker
from streamasr.wire.native import (
    Authenticate,
    Close,
    Command,
    Config,
    Encoder,
    Finalize,
    KeepAlive,
    Mute,
    Resume,
    Unmute,
)


class Session:
    """What lives as long as a client is known. All methods belong to the event loop."""

    def __init__(
        self,
        engine: Engine,
        config: ServeConfig,
        microphone: Callable[[], MicrophoneStatus],
        set_muted: SetMuted | None,
    ) -> None:
        """``set_muted`` is None where the daemon hears no microphone."""
        self.resume_token = secrets.token_urlsafe(16)
        self._id = secrets.token_hex(8)
        self.outbox = Outbox(Encoder(self._id), config.viewer_queue_finals)
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._engine = engine
        self._microphone = microphone
        self._set_muted = set_muted
        self._audio = Config()
        self._own_search = OwnSearch(engine)
        self._speaker: Speaker | None = None
        self._finalizing: asyncio.Future[None] | None = None

    @property
    def role(self) -> Role:
        """A viewer listens to the daemon's microphone."""
        return "viewer" if self._speaker is None else "speaker"

    @property
    def is_fresh(self) -> bool:
        """Whether its client has said nothing yet."""
        return self.received == 0

    def greet(self) -> None:
        """Say hello."""
        recognizer = self._engine.recognizer
        self._put(
            lambda: self.outbox.encoder.encode_hello(
                model=recognizer.model_name,
                languages=("en",),
                sample_rate_hz=recognizer.sample_rate_hz,
                resume_token=self.resume_token,
                can_mute=self._set_muted is not None,
            )
        )

    def resume(self, after_seq: int) -> bool:
        """Say again what came after ``after_seq``, and how the microphone is now; False where
        that is not known any more."""
        if not self.outbox.send_again(after_seq):
            return False
        self.outbox.put_resumed(lambda: self.outbox.encoder.encode_resumed(received=self.received))
        self.show_status(changed=False)  # after that: what waits must not grow with every try
        return True

    def show(self, events: list[Event]) -> None:
        """Send events of the stream this client listens to."""
        for event in events:
            if not self.outbox.put_event(event):
                self._end_too_slow()

    def show_status(self, *, changed: bool = True) -> None:
        """Send a status: of the microphone, and of this client's own stream where it has one.
        One that tells no change may be replaced by the next, and would pass for the answer to a
        mute or unmute that is not carried out yet."""
        status = self._microphone()  # as it is now: "recovered" is only told once
        received = self.received
        if changed:  # also by the message that is acted on just now
            self._put(lambda: self._encode_status(status, self.received))
        elif not status.is_changing:
            # What was put before it goes first: it must not tell an older state.
            self.outbox.put_heartbeat(lambda: self._encode_status(self._microphone(), received))

    def show_error(self, error: ProtocolError) -> None:
        """Send an error that does not end the session."""
        self._put(lambda: self.outbox.encoder.encode_error(error))

    def end(self, ending: Ending) -> None:
        """Begin to end. The first call counts."""
        if not self.ending.done():
            self.ending.set_result(ending)

    def discard_backlog(self) -> None:
        """Throw away audio that waits to be recognised."""
        if self._speaker is not None:
            self._speaker.stream.discard_backlog()

    async def flush(self) -> bool:
        """Wait for the last final of this client's own stream; False where it takes too long."""
        return self._speaker is None or await self._speaker.finish()

    def abandon(self) -> None:
        """The client will not come back."""
        self.ending.cancel()
        if self._speaker is not None:
            self._speaker.abandon()

    async def take(self, message: bytes | Command) -> None:
        """Act on one message of the client. Raises ProtocolError."""
        match message:
            case bytes():
                await self._hear(message)
            case Config():
                await self._configure(message)
            case Finalize():
                await self._finalize()
            case KeepAlive() | Authenticate():
                pass
            case Resume():
                raise ProtocolError("bad_order", "resume must be the first message")
            case Mute() | Unmute():
                self._mute(isinstance(message, Mute))
            case Close():
                self.end(Ending(1000))
            case unknown:
                assert_never(unknown)

    def _mute(self, muted: bool) -> None:
        """Everybody gets a status when it is done; this client also where nothing is to be done."""
        if self._set_muted is None:
            raise ProtocolError("no_microphone", "the daemon hears no microphone to be muted")
        if not self._set_muted(muted):
            self.show_status()

    def _encode_status(self, status: MicrophoneStatus, received: int) -> str:
        lag_ms, dropped_ms, audio_seconds = status.lag_ms, status.dropped_ms, status.audio_seconds
        if self._speaker is not None:
            stream = self._speaker.stream
            lag_ms = round(stream.backlog_seconds * 1000)
            dropped_ms = round(stream.discarded_seconds * 1000)
            audio_seconds = stream.fed_seconds
        return self.outbox.encoder.encode_status(
            status.state,
            lag_ms=lag_ms,
            dropped_ms=dropped_ms,
            audio_seconds=audio_seconds,
            received=received,
        )

    async def _configure(self, audio: Config) -> None:
        if self._speaker is not None:
            raise ProtocolError("config_after_audio", "config must come before the first audio")
        hot_phrases = {
            phrase: HOT_WEIGHT if weight is None else weight
            for phrase, weight in audio.hotwords.items()
        }
        await self._own_search.expect(Expected(hot_phrases, audio.phrases))
        self._audio = audio
        self.outbox.encoder.words = audio.words
        self.outbox.partial_interval_seconds = audio.partial_interval_ms / 1000

    async def _finalize(self) -> None:
        """Queue the end of the utterance; one at a time, so that a flood of them is bounded."""
        if self._speaker is None:
            raise ProtocolError("no_audio", "finalize ends your own utterance; send audio first")
        if self._finalizing is not None:
            await asyncio.wait((self._finalizing,))
        self._finalizing = self._speaker.finalize()
        self._finalizing.add_done_callback(
            lambda _: self._put(self.outbox.encoder.encode_finalized)
        )

    async def _hear(self, data: bytes) -> None:
        if self._speaker is None:
            try:
                search = await self._own_search.take()
            except ProtocolError as error:  # what was expected is unknown to a new model
                self.show_error(error)
                self._own_search, search = OwnSearch(self._engine), None
            self.outbox.clear()
            self._speaker = Speaker(
                self._engine,
                PcmFormat(self._audio.sample_rate_hz, self._audio.channels, self._audio.encoding),
                self.show,
                self._fail,
                name=f"native {self._id[:6]}",
                wishes=Wishes(
                    self._audio.endpoint_over,
                    self._audio.max_alternatives,
                    self._own_search.expected,
                ),
                search=search,
            )
        await self._speaker.hear(data)

    def _fail(self, error: ProtocolError) -> None:
        if error.fatal:
            self.end(ending_for(error))
        else:
            self.show_error(error)

    def _put(self, write: Callable[[], str]) -> None:
        if not self.outbox.put(write):
            self._end_too_slow()

    def _end_too_slow(self) -> None:
        message = f"more than {self.outbox.limit} messages wait; read faster"
        self.end(ending_for(ProtocolError("too_slow", message, fatal=True)))
