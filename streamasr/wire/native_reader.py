"""The native protocol from the client's side: server messages -> values, commands -> text.

Made for servers newer than itself: types it does not know come back as ``Unknown``, fields
it does not know are ignored. A field that it knows and that is missing or of the wrong kind
is a ProtocolError.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from streamasr.errors import ProtocolError
from streamasr.events import Alternative, Final, Partial, SpeechStarted, Word


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message. ``resume_token`` is None where the server cannot resume; ``can_mute``:
    whether it hears a microphone that ``MUTE`` closes."""

    protocol: int
    model: str
    languages: tuple[str, ...]
    sample_rate_hz: int
    resume_token: str | None = None
    can_mute: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """``microphone``: ``ok``, ``lost``, ``recovered``, ``muted`` or ``none``. ``audio_seconds``:
    where the clock of the stream stands; ``received``: messages of this session acted on. None
    where the server says neither."""

    microphone: str
    lag_ms: int
    dropped_ms: int
    audio_seconds: float | None = None
    received: int | None = None


@dataclass(frozen=True, slots=True)
class Finalized:
    """A ``finalize`` was carried out."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The old session goes on; ``received`` of its messages were acted on."""

    received: int


@dataclass(frozen=True, slots=True)
class ServerError:
    """``code`` for machines, ``message`` for people; the server closes after a ``fatal`` one."""

    code: str
    message: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a newer server."""

    type: str


Message = (
    Hello | SpeechStarted | Partial | Final | Finalized | Status | Resumed | ServerError | Unknown
)


@dataclass(frozen=True, slots=True)
class Received:
    """A message in its envelope; ``seq`` grows in a session."""

    session: str
    seq: int
    message: Message


def read_message(text: str | bytes) -> Received:
    """Read one message of a server. Raises ProtocolError: ``bad_json``, ``bad_message`` (no
    object, no envelope, a binary message) or ``bad_value``."""
    if isinstance(text, bytes):
        raise ProtocolError("bad_message", "the server sent a binary message")
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("bad_json", "the server sent what is not JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ProtocolError("bad_message", "the server sent no object with a type")
    message_type = fields["type"]
    try:
        session, seq = _text(fields["session"]), _whole(fields["seq"])
        if message_type not in _MESSAGES:
            return Received(session, seq, Unknown(message_type))
        return Received(session, seq, _MESSAGES[message_type].read(fields))
    except KeyError as missing:
        problem = f"the server's {message_type[:40]!r} lacks {missing}"
        raise ProtocolError("bad_message", problem) from None
    except (ValueError, OverflowError) as error:
        problem = f"the server's {message_type[:40]!r} has a bad value: {error}"
        raise ProtocolError("bad_value", problem) from None


FINALIZE = '{"type":"finalize"}'
KEEPALIVE = '{"type":"keepalive"}'
MUTE = '{"type":"mute"}'
UNMUTE = '{"type":"unmute"}'
CLOSE = '{"type":"close"}'


def encode_config(settings: Mapping[str, object]) -> str:
    """How the audio that follows is to be read and answered, in the words of the protocol."""
    return _encode("config", **settings)


def encode_authenticate(token: str) -> str:
    """For clients that cannot set a header; the first message."""
    return _encode("authenticate", token=token)


def encode_resume(resume_token: str, after_seq: int) -> str:
    """Take up the session of that ``hello``, of which ``after_seq`` was the last message seen."""
    return _encode("resume", resume_token=resume_token, after_seq=after_seq)


def _encode(message_type: str, /, **fields: object) -> str:
    head = {"type": message_type}
    return json.dumps(head | fields, ensure_ascii=False, separators=(",", ":"))


# ---- The table: how a field of each name is read, and what each message consists of. -------


_T = TypeVar("_T")


def _a(kind: type[_T], name: str) -> Callable[[object], _T]:
    """Reads just this type: ``true`` is no number."""

    def read(value: object) -> _T:
        if type(value) is not kind:
            raise ValueError(f"{_short(value)} is not {name}")
        return value

    return read


_whole = _a(int, "a whole number")
_text = _a(str, "a text")
_truth = _a(bool, "true or false")
_list = _a(list, "a list")
_object = _a(dict, "an object")


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{_short(value)} is not a number")
    number = float(cast(float, value))  # an integer may be too large: that is an OverflowError
    if not math.isfinite(number):
        raise ValueError(f"{_short(value)} is too large")
    return number


def _or_none(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else read(value)


def _each(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: tuple(read(item) for item in _list(value))


@dataclass(frozen=True, slots=True)
class _Shape:
    """The fields that make a value; those in ``missing`` may be, and are this then."""

    make: Callable[..., Message | Word | Alternative]
    fields: str = ""
    missing: Mapping[str, object] = field(default_factory=dict)

    def read(self, given: object) -> Message:
        fields, values = _object(given), {}
        for key in self.fields.split():
            attribute, read = _FIELDS[key]
            is_missing = key in self.missing and key not in fields
            values[attribute] = self.missing[key] if is_missing else read(fields[key])
        return self.make(**values)  # type: ignore[return-value]


_WORD = _Shape(Word, "word start end confidence")
_ALTERNATIVE = _Shape(Alternative, "text confidence")

_FIELDS: dict[str, tuple[str, Callable[[object], object]]] = {
    "alternatives": ("alternatives", _each(_ALTERNATIVE.read)),
    "audio_seconds": ("audio_seconds", _number),
    "can_mute": ("can_mute", _truth),
    "code": ("code", _text),
    "confidence": ("confidence", _number),
    "dropped_ms": ("dropped_ms", _whole),
    "end": ("end_seconds", _number),
    "end_reason": ("end_reason", _text),
    "endpoint_rule": ("endpoint_rule", _or_none(_text)),
    "fatal": ("fatal", _truth),
    "lag_ms": ("lag_ms", _whole),
    "languages": ("languages", _each(_text)),
    "message": ("message", _text),
    "microphone": ("microphone", _text),
    "model": ("model", _text),
    "protocol": ("protocol", _whole),
    "received": ("received", _whole),
    "resume_token": ("resume_token", _or_none(_text)),
    "sample_rate": ("sample_rate_hz", _whole),
    "stable_text": ("stable_text", _text),
    "start": ("start_seconds", _number),
    "text": ("text", _text),
    "utterance": ("utterance", _whole),
    "word": ("word", _text),
    "words": ("words", _each(_WORD.read)),
}
_MESSAGES = {
    "hello": _Shape(
        Hello,
        "protocol model languages sample_rate resume_token can_mute",
        {"resume_token": None, "can_mute": False},
    ),
    "speech_started": _Shape(SpeechStarted, "utterance start"),
    "partial": _Shape(Partial, "utterance text stable_text start end words", {"words": ()}),
    "final": _Shape(
        Final,
        "utterance text start end words confidence alternatives end_reason endpoint_rule",
        {"words": (), "alternatives": (), "endpoint_rule": None},
    ),
    "finalized": _Shape(Finalized),
    "status": _Shape(
        Status,
        "microphone lag_ms dropped_ms audio_seconds received",
        {"audio_seconds": None, "received": None},
    ),
    "resumed": _Shape(Resumed, "received"),
    "error": _Shape(ServerError, "code message fatal"),
}


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
