"""The protocol of vosk-server's websocket: JSON text <-> commands and events. No sockets here.

A client sends ``{"config": {…}}`` (no reply), audio as binary messages, ``{"eof": 1}`` or
``{"reset": 1}``, and reads exactly one reply to each of the last three, in order. So what a
stream says in between waits in ``Replies``. ``text`` marks a final, ``partial`` the rest. Times
are seconds from the start of the stream.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamasr.errors import ProtocolError
from streamasr.events import Alternative, Event, Final, Partial, Word
from streamasr.wire.json_object import (
    MAX_ALTERNATIVES,
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    bad_value,
    ending_the_connection,
    phrases,
    read_object,
    whole_number,
)


@dataclass(frozen=True, slots=True)
class Config:
    """How a client's audio is to be read and answered; ``phrases``, if there are any, are all
    that can be heard. ``token`` is the daemon's, where it has one."""

    sample_rate_hz: int = 8_000
    phrases: tuple[str, ...] = ()
    words: bool = True
    max_alternatives: int = 0
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Eof:
    """Send the last final and close."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Send the last final and stay open."""


Command = Config | Eof | Reset

COMMAND_KEYS = ("config", "eof", "reset")


@ending_the_connection()
def parse_message(text: str) -> Command:
    """Read one text message. Raises a fatal ProtocolError: ``bad_json``, ``bad_message`` (not an
    object, or no or more than one command in it), ``bad_value``.

    Keys that are not known are ignored, and so is ``model``: there, it would change the model
    of everybody.
    """
    message = read_object(text)
    keys = [key for key in COMMAND_KEYS if key in message]
    if len(keys) != 1:
        raise ProtocolError("bad_message", 'the message must have "config", "eof" or "reset"')
    value = message[keys[0]]
    if keys == ["config"]:
        return _parse_config(value)
    if value != 1:
        raise bad_value(keys[0], "1", value)
    return Eof() if keys == ["eof"] else Reset()


def _parse_config(config: object) -> Config:
    if not isinstance(config, dict):
        raise bad_value("config", "an object", config)
    values = {
        field_name: read(f"config.{key}", config[key])
        for key, (field_name, read) in _CONFIG_FIELDS.items()
        if key in config
    }
    return Config(**values)  # type: ignore[arg-type]


def _sample_rate(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return whole_number(name, value, MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ)


def _phrases(name: str, value: object) -> tuple[str, ...]:
    return () if value is None else phrases(name, value)


def _words_wanted(name: str, value: object) -> bool:
    if value not in (True, False):  # clients write 1 and 0, too
        raise bad_value(name, "true or false", value)
    return bool(value)


def _max_alternatives(name: str, value: object) -> int:
    if isinstance(value, int) and value > MAX_ALTERNATIVES:
        return MAX_ALTERNATIVES
    return whole_number(name, value, 0, MAX_ALTERNATIVES)


def _token(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ProtocolError("bad_value", f"{name} must be a text")  # which is not quoted
    return value


_CONFIG_FIELDS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "sample_rate": ("sample_rate_hz", _sample_rate),
    "phrase_list": ("phrases", _phrases),
    "words": ("words", _words_wanted),
    "max_alternatives": ("max_alternatives", _max_alternatives),
    "token": ("token", _token),
}


class Replies:
    """What one client is told when it asks; every final is told once."""

    def __init__(self, words: bool, max_alternatives: int) -> None:
        self._words = words
        self._max_alternatives = max_alternatives
        self._finals: list[Final] = []
        self._partial = ""

    def hear(self, events: Iterable[Event]) -> None:
        """Keep what the stream said for the next reply."""
        for event in events:
            if isinstance(event, Final):
                self._finals.append(event)
                self._partial = ""
            elif isinstance(event, Partial):
                self._partial = event.text

    @property
    def has_final(self) -> bool:
        """Whether something final was not told yet."""
        return bool(self._finals)

    def audio(self) -> str:
        """The reply to audio: all finals since the last reply as one, else the partial."""
        return _json(self._result() if self._finals else {"partial": self._partial})

    def end(self) -> str:
        """The reply to ``eof`` and ``reset``: a final, which may be empty."""
        self._partial = ""
        return _json(self._result())

    def refuse(self, error: ProtocolError) -> str:
        """The last final with ``error``, which Vosk does not have, beside it; then close."""
        return _json(self._result() | {"error": {"code": error.code, "message": str(error)}})

    def _result(self) -> dict[str, object]:
        finals, self._finals = self._finals, []
        if self._max_alternatives:
            return {"alternatives": self._alternatives(finals)}
        words = [word for final in finals for word in final.words]
        text = _joined(final.text for final in finals)
        if not (self._words and words):
            return {"text": text}
        result = [{"conf": round(word.confidence, 6)} | _placed(word) for word in words]
        return {"result": result, "text": text}

    def _alternatives(self, finals: Sequence[Final]) -> list[dict[str, object]]:
        """The i-th readings of all finals as one; where a final has fewer, its last."""
        each = [_readings(final)[: self._max_alternatives] for final in finals]
        count = max(map(len, each), default=1)
        return [
            self._alternative([readings[min(place, len(readings) - 1)] for readings in each])
            for place in range(count)
        ]

    def _alternative(self, parts: Sequence[Alternative]) -> dict[str, object]:
        confidence = round(math.prod((part.confidence for part in parts), start=1.0), 6)
        text = _joined(part.text for part in parts)
        words = [_placed(word) for part in parts for word in part.words]
        has_all_words = all(part.words or not part.text for part in parts)
        if not (self._words and words and has_all_words):
            return {"confidence": confidence, "text": text}
        return {"confidence": confidence, "result": words, "text": text}


def _readings(final: Final) -> Sequence[Alternative]:
    """Best first; at least one."""
    return final.alternatives or (Alternative(final.text, final.confidence, final.words),)


def _placed(word: Word) -> dict[str, object]:
    return {
        "end": round(word.end_seconds, 6),
        "start": round(word.start_seconds, 6),
        "word": word.word,
    }


def _joined(texts: Iterable[str]) -> str:
    return " ".join(filter(None, texts))


def _json(reply: Mapping[str, object]) -> str:
    return json.dumps(reply, ensure_ascii=False)
