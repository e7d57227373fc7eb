"""The native protocol, version 1: JSON text <-> events and commands. No sockets here.

Server to client, every message with ``type``, ``session`` and a ``seq`` that grows (by one,
but over partials that a resumed client need not see): ``hello`` (always first),
``speech_started``, ``partial``, ``final``, ``finalized`` (the answer to every ``finalize``,
also where nothing was said), ``resumed``, ``status`` and ``error``.

Client to server, JSON objects with ``type``: ``authenticate`` and ``resume`` (on a new
connection), ``config`` (before the first audio), ``finalize``, ``keepalive``, ``mute`` and
``unmute`` (of the daemon's own microphone, for everybody), ``close``. Audio travels as binary
messages and never comes here. Times are seconds of the stream's sample clock, rounded to
milliseconds.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, get_args

from streamasr.config import Encoding, EndpointConfig
from streamasr.errors import ProtocolError
from streamasr.events import Final, Partial, SpeechStarted, Word
from streamasr.wire.json_object import (
    MAX_ALTERNATIVES,
    MAX_CHANNELS,
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    bad_value,
    phrase,
    phrase_list,
    phrases,
    quote,
    read_object,
    whole_number,
)

PROTOCOL_VERSION = 1
MAX_WEIGHT = 20
MAX_SEQ = 2**53

MicrophoneState = Literal["ok", "lost", "recovered", "muted", "none"]


@dataclass(frozen=True, slots=True)
class Config:
    """How a speaker's audio is to be read and answered.

    ``max_alternatives`` None and keys that ``endpoint`` lacks leave the daemon's values.
    ``hotwords`` are phrases with their weights, None for the usual one; ``phrases``, if there
    are any, are all that can be heard.
    """

    sample_rate_hz: int = 16_000
    channels: int = 1
    encoding: Encoding = "pcm_s16le"
    words: bool = True
    partial_interval_ms: int = 0
    max_alternatives: int | None = None
    endpoint: Mapping[str, float] = field(default_factory=dict)
    hotwords: Mapping[str, float | None] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()

    def endpoint_over(self, default: EndpointConfig) -> EndpointConfig:
        """The daemon's endpoint rules with this speaker's wishes over them."""
        return replace(default, **self.endpoint)


@dataclass(frozen=True, slots=True)
class Finalize:
    """End the utterance in progress and stay open."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing but a sign of life."""


@dataclass(frozen=True, slots=True)
class Mute:
    """Close the daemon's microphone."""


@dataclass(frozen=True, slots=True)
class Unmute:
    """Open it again."""


@dataclass(frozen=True, slots=True)
class Close:
    """Flush, send the last final, close."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The first message of a client that could not send the token as a header."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the session of ``resume_token``, after the message numbered ``after_seq``."""

    resume_token: str = field(repr=False)
    after_seq: int


Command = Config | Finalize | KeepAlive | Mute | Unmute | Close | Authenticate | Resume

_BARE_COMMANDS: dict[str, Command] = {
    "finalize": Finalize(),
    "keepalive": KeepAlive(),
    "mute": Mute(),
    "unmute": Unmute(),
    "close": Close(),
}
COMMAND_TYPES = ("config", "authenticate", "resume", *_BARE_COMMANDS)


@dataclass(slots=True)
class Encoder:
    """Writes one connection's messages and numbers them."""

    session: str
    words: bool = True
    seq: int = field(default=0, init=False)
    """Of the last message that was written."""

    def encode_hello(
        self,
        *,
        model: str,
        languages: Iterable[str],
        sample_rate_hz: int,
        resume_token: str,
        can_mute: bool,
    ) -> str:
        """The greeting; ``resume_token`` is the secret that brings the client back here.
        ``can_mute``: whether the daemon hears a microphone that ``mute`` closes."""
        return self._message(
            "hello",
            protocol=PROTOCOL_VERSION,
            model=model,
            languages=list(languages),
            sample_rate=sample_rate_hz,
            resume_token=resume_token,
            can_mute=can_mute,
        )

    def encode_event(self, event: SpeechStarted | Partial | Final) -> str:
        """One event of a stream. Without ``words``, partials have none and finals ``[]``."""
        self.seq += 1
        return self._head(_EVENT_TYPES[type(event)]) + _event_fields(event, self.words)

    def encode_finalized(self) -> str:
        """A ``finalize`` was carried out; its final, if any word was said, came before this."""
        return self._message("finalized")

    def encode_resumed(self, *, received: int) -> str:
        """``received``: how many messages of this session's client were acted on."""
        return self._message("resumed", received=received)

    def encode_status(
        self,
        microphone: MicrophoneState,
        *,
        lag_ms: int,
        dropped_ms: int,
        audio_seconds: float,
        received: int,
    ) -> str:
        """``lag_ms``: audio received and not recognised yet. ``dropped_ms``: audio lost.
        ``audio_seconds``: where the clock of the stream stands that this client hears."""
        return self._message(
            "status",
            microphone=microphone,
            lag_ms=lag_ms,
            dropped_ms=dropped_ms,
            audio_seconds=_seconds(audio_seconds),
            received=received,
        )

    def encode_error(self, error: ProtocolError) -> str:
        """One short code for machines, one sentence for people."""
        return self._message("error", code=error.code, message=str(error), fatal=error.fatal)

    def _message(self, message_type: str, /, **fields: object) -> str:
        self.seq += 1
        return self._head(message_type) + _rest(fields)

    def _head(self, message_type: str) -> str:
        return f'{{"type":"{message_type}","session":"{self.session}","seq":{self.seq}'


_EVENT_TYPES = {SpeechStarted: "speech_started", Partial: "partial", Final: "final"}


@lru_cache(maxsize=16)
def _event_fields(event: SpeechStarted | Partial | Final, with_words: bool) -> str:
    """The rest of an event's message; kept, because every viewer gets the same."""
    fields: dict[str, object] = {"utterance": event.utterance}
    if isinstance(event, SpeechStarted):
        return _rest(fields | {"start": _seconds(event.start_seconds)})
    if isinstance(event, Partial):
        fields |= {"text": event.text, "stable_text": event.stable_text}
    else:
        fields |= {"text": event.text}
    fields |= {"start": _seconds(event.start_seconds), "end": _seconds(event.end_seconds)}
    if with_words or isinstance(event, Final):
        fields["words"] = _words(event.words) if with_words else []
    if isinstance(event, Final):
        fields |= {
            "confidence": _confidence(event.confidence),
            "alternatives": [
                {"text": other.text, "confidence": _confidence(other.confidence)}
                for other in event.alternatives
            ],
            "end_reason": event.end_reason,
            "endpoint_rule": event.endpoint_rule,
        }
    return _rest(fields)


def _rest(fields: Mapping[str, object]) -> str:
    """What follows the head of a message that has these fields."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return f",{text[1:]}" if fields else "}"


def parse_message(text: str) -> Command:
    """Read one text message. Raises ProtocolError with a code that names what is wrong:

    ``bad_json``, ``bad_message`` (not an object, no ``type``), ``unknown_type``,
    ``unknown_key``, ``bad_value``.
    """
    message = read_object(text)
    message_type = message.pop("type", None)
    if not isinstance(message_type, str):
        raise ProtocolError("bad_message", 'the message has no "type" that is a string')
    if message_type not in COMMAND_TYPES:
        raise ProtocolError(
            "unknown_type",
            f"unknown type {quote(message_type)}{_did_you_mean(message_type, COMMAND_TYPES)}",
        )
    if message_type == "config":
        return _parse_config(message)
    if message_type == "authenticate":
        _refuse_unknown_keys(message, ("token",), message_type)
        return Authenticate(_secret("authenticate.token", message.get("token")))
    if message_type == "resume":
        _refuse_unknown_keys(message, ("resume_token", "after_seq"), message_type)
        after_seq = _integer(0, MAX_SEQ)("resume.after_seq", message.get("after_seq"))
        resume_token = _secret("resume.resume_token", message.get("resume_token"))
        return Resume(resume_token, after_seq)  # type: ignore[arg-type]
    _refuse_unknown_keys(message, (), message_type)
    return _BARE_COMMANDS[message_type]


def _parse_config(message: Mapping[str, object]) -> Config:
    _refuse_unknown_keys(message, _CONFIG_FIELDS, "config")
    values = {
        field_name: read(f"config.{key}", message[key])
        for key, (field_name, read) in _CONFIG_FIELDS.items()
        if key in message
    }
    return Config(**values)  # type: ignore[arg-type]


def _integer(low: int, high: int) -> Callable[[str, object], object]:
    return lambda name, value: whole_number(name, value, low, high)


def _secret(name: str, value: object) -> str:
    """Never quoted in the error."""
    if not isinstance(value, str):
        raise ProtocolError("bad_value", f"{name} must be a text")
    return value


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise bad_value(name, "true or false", value)
    return value


def _encoding(name: str, value: object) -> Encoding:
    for known in get_args(Encoding):
        if value == known:
            return value  # type: ignore[return-value]
    raise bad_value(name, " or ".join(get_args(Encoding)), value)


def _endpoint(name: str, value: object) -> Mapping[str, float]:
    if not isinstance(value, dict):
        raise bad_value(name, "an object", value)
    _refuse_unknown_keys(value, _ENDPOINT_KEYS, name)
    seconds: dict[str, float] = {}
    for key, number in value.items():
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not 0.1 <= number <= 60.0:
            raise bad_value(f"{name}.{key}", "a number of seconds in 0.1..60", number)
        seconds[key] = float(number)
    return seconds


def _hotwords(name: str, value: object) -> Mapping[str, float | None]:
    weights: dict[str, float | None] = {}
    for number, each in enumerate(phrase_list(name, value)):
        place = f"{name}[{number}]"
        if not isinstance(each, dict):
            raise bad_value(place, 'an object {"phrase": …, "weight": …}', each)
        _refuse_unknown_keys(each, ("phrase", "weight"), place)
        weight = each.get("weight")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if weight is not None and not (is_number and 0 <= weight <= MAX_WEIGHT):
            raise bad_value(f"{place}.weight", f"a number in 0..{MAX_WEIGHT}", weight)
        hot = phrase(f"{place}.phrase", each.get("phrase"))
        weights[hot] = None if weight is None else float(weight)
    return weights


_ENDPOINT_KEYS = (
    "silence_without_words_seconds",
    "silence_after_words_seconds",
    "utterance_seconds",
)
_CONFIG_FIELDS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "sample_rate": ("sample_rate_hz", _integer(MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ)),
    "channels": ("channels", _integer(1, MAX_CHANNELS)),
    "encoding": ("encoding", _encoding),
    "words": ("words", _boolean),
    "partial_interval_ms": ("partial_interval_ms", _integer(0, 10_000)),
    "max_alternatives": ("max_alternatives", _integer(0, MAX_ALTERNATIVES)),
    "endpoint": ("endpoint", _endpoint),
    "hotwords": ("hotwords", _hotwords),
    "phrases": ("phrases", phrases),
}


def _refuse_unknown_keys(given: Mapping[str, object], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in given:
        if key not in known:
            raise ProtocolError(
                "unknown_key", f"unknown key {quote(key)} in {where}{_did_you_mean(key, known)}"
            )


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given[:40], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _words(words: Iterable[Word]) -> list[dict[str, object]]:
    return [
        {
            "word": word.word,
            "start": _seconds(word.start_seconds),
            "end": _seconds(word.end_seconds),
            "confidence": _confidence(word.confidence),
        }
        for word in words
    ]


def _seconds(seconds: float) -> float:
    return round(seconds, 3)


def _confidence(confidence: float) -> float:
    return round(confidence, 4)
