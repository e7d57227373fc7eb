"""Wyoming, the protocol of Home Assistant's voice services: bytes <-> messages, no sockets.

A message is a header, which is one line of JSON, then ``data_length`` bytes of JSON, which are
merged over the header's own ``data``, then ``payload_length`` bytes of audio; either may be
missing. A client sends ``describe``, or ``transcribe``, ``audio-start``, ``audio-chunk``… and
``audio-stop``, and reads up to ``transcript``. Timestamps are milliseconds of the stream's
sample clock.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from streamasr.errors import ProtocolError
from streamasr.events import Event, Final, Partial, SpeechStarted, StreamEnded
from streamasr.wire.json_object import (
    MAX_CHANNELS,
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    bad_value,
    ending_the_connection,
    quote,
    read_object,
    whole_number,
)

PROTOCOL_VERSION = "1.10.2"
"""Of the ``wyoming`` package whose messages these are."""
MAX_HEADER_BYTES = 64 << 10
MAX_DATA_BYTES = 1 << 20
SAMPLE_BYTES = 2
LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of either side."""

    type: str
    data: Mapping[str, object] = field(default_factory=dict)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class _Header:
    type: str
    data: dict[str, object]
    data_bytes: int
    payload_bytes: int


class MessageReader:
    """Bytes in pieces of any size -> messages.

    It holds one header, one header's data and one payload at most, and looks at every byte once.
    """

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._part = bytearray()
        self._header: _Header | None = None
        self._data: dict[str, object] | None = None
        self._failure: ProtocolError | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that ``data`` completes; take them all before feeding more.

        Where something bad follows them, the fatal ProtocolError comes in its turn, after the
        last good message, and again whenever more is fed: ``bad_json``, ``bad_message``,
        ``bad_value`` or, as soon as a header asks for too much, ``message_too_big``.
        """
        if self._failure is not None:
            raise self._failure
        at = 0
        while True:
            try:
                with ending_the_connection():
                    part, at = self._take(data, at)
                    if part is None:
                        return
                    message = self._accept(part)
            except ProtocolError as error:
                self._failure = error
                raise
            if message is not None:
                yield message

    def _take(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The part of a message that comes next, if all of it is here, and where it ends."""
        if self._header is None:
            end = _end_of_line(data, at, MAX_HEADER_BYTES - len(self._part))
        elif self._data is None:
            end = at + self._header.data_bytes - len(self._part)
        else:
            end = at + self._header.payload_bytes - len(self._part)
        if end is None or end > len(data):
            self._part += data[at:]
            return None, len(data)
        if not self._part:
            return data[at:end], end
        self._part += data[at:end]
        part = bytes(self._part)
        self._part.clear()
        return part, end

    def _accept(self, part: bytes) -> Message | None:
        """Take a whole part; the message, where it was the last one."""
        if self._header is None:
            self._header = _read_header(part, self._max_payload_bytes)
        elif self._data is None:
            self._data = self._header.data | (_read_json(part) if part else {})
        else:
            message = Message(self._header.type, self._data, part)
            self._header = self._data = None
            return message
        return None


def _end_of_line(data: bytes, at: int, room_bytes: int) -> int | None:
    """Where the line that goes on at ``at`` ends; None where that is not here yet."""
    newline = data.find(b"\n", at, at + room_bytes + 1)
    if newline >= 0:
        return newline + 1
    if len(data) - at > room_bytes:
        raise _too_big("header", MAX_HEADER_BYTES)
    return None


def _read_header(line: bytes, max_payload_bytes: int) -> _Header:
    header = _read_json(line)
    message_type = header.get("type")
    if not isinstance(message_type, str):
        raise ProtocolError("bad_message", 'the header has no "type" that is a text')
    data = header.get("data")
    if data is not None and not isinstance(data, dict):
        raise bad_value("data", "an object", data)
    return _Header(
        message_type,
        data or {},
        _length(header, "data", MAX_DATA_BYTES),
        _length(header, "payload", max_payload_bytes),
    )


def _length(header: Mapping[str, object], part: str, most_bytes: int) -> int:
    length = header.get(f"{part}_length")
    if length is None:
        return 0
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise bad_value(f"{part}_length", "a whole number of bytes", length)
    if length > most_bytes:
        raise _too_big(part, most_bytes)
    return length


def _too_big(part: str, most_bytes: int) -> ProtocolError:
    return ProtocolError(
        "message_too_big", f"a message's {part} may have {most_bytes} bytes; send less at once"
    )


def _read_json(part: bytes) -> dict[str, object]:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise ProtocolError("bad_json", "the message is not JSON: it is not UTF-8") from None
    return read_object(text)


def encode(message: Message) -> bytes:
    """The message as it is sent."""
    # Escaped, or half a surrogate pair that came in a ping could not be sent back.
    data = json.dumps(message.data).encode() if message.data else b""
    header: dict[str, object] = {"type": message.type, "version": PROTOCOL_VERSION}
    if data:
        header["data_length"] = len(data)
    if message.payload:
        header["payload_length"] = len(message.payload)
    return b"".join((json.dumps(header).encode(), b"\n", data, message.payload))


@dataclass(frozen=True, slots=True)
class Describe:
    """Say what there is: ``info``."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """What the audio that follows is; English, or not said."""

    language: str | None = None


@dataclass(frozen=True, slots=True)
class AudioStart:
    """Audio in this format follows."""

    rate_hz: int
    width_bytes: int
    channels: int


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """PCM samples, signed and little-endian."""

    rate_hz: int
    width_bytes: int
    channels: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class AudioStop:
    """All was said; send the transcript."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Send ``text`` back in a ``pong``."""

    text: str | None = None


Command = Describe | Transcribe | AudioStart | AudioChunk | AudioStop | Ping


@ending_the_connection()
def command_of(message: Message) -> Command | None:
    """What a client wants; None where the type is not known, which is to be ignored.

    Raises a fatal ProtocolError: ``bad_value``, or ``unsupported`` for another language.
    """
    read = _COMMANDS.get(message.type)
    return None if read is None else read(message)


def _transcribe(message: Message) -> Transcribe:
    language = _text_or_none(message, "language")
    if language and language.replace("_", "-").partition("-")[0].lower() != LANGUAGE:
        raise ProtocolError(
            "unsupported", f"language {quote(language)} is not known; speak English ({LANGUAGE})"
        )
    return Transcribe(language)


def _audio_start(message: Message) -> AudioStart:
    return AudioStart(*_audio_format(message))


def _audio_chunk(message: Message) -> AudioChunk:
    return AudioChunk(*_audio_format(message), message.payload)


def _audio_format(message: Message) -> tuple[int, int, int]:
    rate_hz = whole_number(
        f"{message.type}.rate", message.data.get("rate"), MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ
    )
    width_bytes = message.data.get("width")
    if width_bytes != SAMPLE_BYTES:
        raise bad_value(
            f"{message.type}.width", f"{SAMPLE_BYTES} (send 16-bit samples)", width_bytes
        )
    channels = whole_number(
        f"{message.type}.channels", message.data.get("channels"), 1, MAX_CHANNELS
    )
    return rate_hz, SAMPLE_BYTES, channels


def _text_or_none(message: Message, key: str) -> str | None:
    value = message.data.get(key)
    if value is not None and not isinstance(value, str):
        raise bad_value(f"{message.type}.{key}", "a text", value)
    return value


_COMMANDS: dict[str, Callable[[Message], Command]] = {
    "describe": lambda message: Describe(),
    "transcribe": _transcribe,
    "audio-start": _audio_start,
    "audio-chunk": _audio_chunk,
    "audio-stop": lambda message: AudioStop(),
    "ping": lambda message: Ping(_text_or_none(message, "text")),
}


def info(*, model: str, version: str) -> bytes:
    """The answer to ``describe``: one program with one model; ``version`` is the daemon's."""
    common = {
        "attribution": {"name": "streamasr", "url": ""},
        "installed": True,
        "version": version,
    }
    asr_model = common | {
        "name": model,
        "description": "English",
        "languages": [LANGUAGE],
    }
    program = common | {
        "name": "streamasr",
        "description": "Speech recognition while you speak, on this machine",
        "models": [asr_model],
        "supports_transcript_streaming": True,
    }
    others: dict[str, object] = {
        service: [] for service in ("tts", "handle", "intent", "wake", "mic", "snd")
    }
    return encode(Message("info", {"asr": [program]} | others))


def error(error: ProtocolError) -> bytes:
    """One sentence for people, one short code for machines."""
    return encode(Message("error", {"text": str(error), "code": error.code}))


def pong(text: str | None) -> bytes:
    """The answer to a ``Ping`` with this text."""
    return encode(Message("pong", {"text": text}))


class Transcript:
    """What one recording, from ``audio-start`` to ``audio-stop``, is answered with.

    Chunks append, so they say only what no later event revises: finals, and the stable text of
    the partial after them. The chunks together are the transcript, blanks and all.
    """

    def __init__(self) -> None:
        self._finals = ""
        self._text = ""
        self._is_streaming = False
        self._is_voice = False

    def hear(self, events: Iterable[Event]) -> list[bytes]:
        """The messages that say what is new in these events of the stream."""
        return [encode(message) for event in events for message in self._say(event)]

    def end(self) -> list[bytes]:
        """The last messages: ``transcript`` with the whole text, which may be empty."""
        transcript = Message("transcript", {"text": self._text, "language": LANGUAGE})
        last = [Message("transcript-stop")] if self._is_streaming else []
        return [encode(message) for message in (transcript, *last)]

    def _say(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted():
                yield from self._voice(True, event.start_seconds)
            case Partial():
                yield from self._commit(_joined(self._finals, event.stable_text))
            case Final():
                self._finals = _joined(self._finals, event.text)
                yield from self._commit(self._finals)
                yield from self._voice(False, event.end_seconds)
            case StreamEnded():
                yield from self._voice(False, event.audio_seconds)

    def _voice(self, is_voice: bool, seconds: float) -> Iterator[Message]:
        """Say that a voice began or stopped, by turns: an utterance may end without a word,
        and thus without an event."""
        if is_voice != self._is_voice:
            self._is_voice = is_voice
            message_type = "voice-started" if is_voice else "voice-stopped"
            yield Message(message_type, {"timestamp": round(seconds * 1000)})

    def _commit(self, text: str) -> Iterator[Message]:
        new = text[len(self._text) :]
        if not new:
            return
        self._text = text
        if not self._is_streaming:
            self._is_streaming = True
            yield Message("transcript-start", {"language": LANGUAGE})
        yield Message("transcript-chunk", {"text": new})


def _joined(before: str, after: str) -> str:
    return f"{before} {after}" if before and after else before or after
