"""What a stream says, in audio time.

All times are seconds of the stream's own sample clock: 0.0 is the first sample that
was fed. Events are values: two runs over the same samples compare equal with ``==``.
"""

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["silence", "length", "finalize", "eof", "device_lost"]
Rule = Literal["silence_without_words", "silence_after_words", "length"]
"""What ends an utterance by itself; see ``decoder/endpoint.py``."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; ``confidence`` is in 0..1."""

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another reading of a whole utterance; ``confidence`` is in 0..1. ``words`` are those of
    ``text``, or none where nobody asked when they were said."""

    text: str
    confidence: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The first sound of speech in an utterance was heard."""

    utterance: int
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Partial:
    """The best reading so far; ``stable_text`` is a prefix of ``text`` that no later
    event of this utterance revises."""

    utterance: int
    text: str
    stable_text: str
    start_seconds: float
    end_seconds: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """The reading of an utterance that has ended. ``text`` is never empty; ``endpoint_rule`` is
    the rule that ended it, or None where something else did."""

    utterance: int
    text: str
    start_seconds: float
    end_seconds: float
    words: tuple[Word, ...]
    confidence: float
    alternatives: tuple[Alternative, ...]
    end_reason: EndReason
    endpoint_rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream was finished; nothing follows."""

    audio_seconds: float


Event = SpeechStarted | Partial | Final | StreamEnded
