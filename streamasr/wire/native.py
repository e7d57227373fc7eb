"""The native protocol, version 1: JSON text <-> events and commands. No sockets here.

Server to client, every message with ``type``, ``session`` and a ``seq`` that grows by one:
``hello`` (always first), ``speech_started``, ``partial``, ``final``, ``finalized`` (the
answer to every ``finalize``, also where nothing was said), ``status`` and ``error``.

Client to server, JSON objects with ``type``: ``config`` (before the first audio),
``finalize``, ``keepalive``, ``close``. Audio travels as binary messages and never comes
here. Times are seconds of the stream's sample clock, rounded to milliseconds.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from streamasr.config import SAMPLE_BYTES, Encoding, EndpointConfig
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

MicrophoneState = Literal["ok", "lost", "recovered", "none"]


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

    @property
    def bytes_per_second(self) -> int:
        """Of the audio that this describes."""
        return self.sample_rate_hz * self.channels * SAMPLE_BYTES[self.encoding]


@dataclass(frozen=True, slots=True)
class Finalize:
    """End the utterance in progress and stay open."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing but a sign of life."""


@dataclass(frozen=True, slots=True)
class Close:
    """Flush, send the last final, close."""


Command = Config | Finalize | KeepAlive | Close

COMMAND_TYPES = ("config", "finalize", "keepalive", "close", "resume")


@dataclass(slots=True)
class Encoder:
    """Writes one connection's messages and numbers them."""

    session: str
    words: bool = True
    _seq: int = field(default=0, init=False)

    def encode_hello(self, *, model: str, languages: Iterable[str], sample_rate_hz: int) -> str:
        """``resume_token`` is null as long as resuming is not supported."""
        return self._message(
            "hello",
            protocol=PROTOCOL_VERSION,
            model=model,
            languages=list(languages),
            sample_rate=sample_rate_hz,
            resume_token=None,
        )

    def encode_event(self, event: SpeechStarted | Partial | Final) -> str:
        """One event of a stream."""
        if isinstance(event, SpeechStarted):
            return self.encode_speech_started(event)
        if isinstance(event, Partial):
            return self.encode_partial(event)
        return self.encode_final(event)

    def encode_speech_started(self, event: SpeechStarted) -> str:
        """The first sound of an utterance."""
        return self._message(
            "speech_started", utterance=event.utterance, start=_seconds(event.start_seconds)
        )

    def encode_partial(self, event: Partial) -> str:
        """The best reading so far."""
        fields: dict[str, object] = {
            "utterance": event.utterance,
            "text": event.text,
            "stable_text": event.stable_text,
            "start": _seconds(event.start_seconds),
            "end": _seconds(event.end_seconds),
        }
        if self.words:
            fields["words"] = _words(event.words)
        return self._message("partial", **fields)

    def encode_final(self, event: Final) -> str:
        """The reading of an utterance that has ended; ``words`` is empty where not wanted."""
        return self._message(
            "final",
            utterance=event.utterance,
            text=event.text,
            start=_seconds(event.start_seconds),
            end=_seconds(event.end_seconds),
            words=_words(event.words) if self.words else [],
            confidence=_confidence(event.confidence),
            alternatives=[
                {"text": other.text, "confidence": _confidence(other.confidence)}
                for other in event.alternatives
            ],
            end_reason=event.end_reason,
            endpoint_rule=event.endpoint_rule,
        )

    def encode_finalized(self) -> str:
        """A ``finalize`` was carried out; its final, if any word was said, came before this."""
        return self._message("finalized")

    def encode_status(self, microphone: MicrophoneState, *, lag_ms: int, dropped_ms: int) -> str:
        """``lag_ms``: audio received and not recognised yet. ``dropped_ms``: audio lost."""
        return self._message("status", microphone=microphone, lag_ms=lag_ms, dropped_ms=dropped_ms)

    def encode_error(self, error: ProtocolError) -> str:
        """One short code for machines, one sentence for people."""
        return self._message("error", code=error.code, message=str(error), fatal=error.fatal)

    def _message(self, message_type: str, /, **fields: object) -> str:
        self._seq += 1
        head = {"type": message_type, "session": self.session, "seq": self._seq}
        return json.dumps(head | fields, ensure_ascii=False, separators=(",", ":"))


def parse_message(text: str) -> Command:
    """Read one text message. Raises ProtocolError with a code that names what is wrong:

    ``bad_json``, ``bad_message`` (not an object, no ``type``), ``unknown_type``,
    ``unknown_key``, ``bad_value``, ``unsupported``.
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
    if message_type == "resume":
        raise ProtocolError("unsupported", "resume is not supported yet; connect anew")
    _refuse_unknown_keys(message, (), message_type)
    if message_type == "finalize":
        return Finalize()
    return KeepAlive() if message_type == "keepalive" else Close()


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
