"""What viewers of live captions see: how steady, how late, how well placed, how sure.

Pure measuring: events with the audio time at which they came, and the words that were said with
the times at which they were, make ``LiveFigures``. ``watch.py`` finds both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streamasr.events import Event, Final, Partial
from streamasr.training.confidence import (
    area_under_roc,
    calibration_error,
    normalised_cross_entropy,
    reliability,
)
from streamasr.training.error_rate import equal_pairs
from streamasr.training.plots import markdown_table

Percentiles = dict[str, float | None]
"""By name, in ms; None where there was nothing to measure."""


class Shown(NamedTuple):
    """An event and how much audio had been fed when it came."""

    audio_seconds: float
    event: Event


class SaidWord(NamedTuple):
    """A word of the reference and where it lies, in audio time; None where that is unknown."""

    word: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What ``streamasr live`` prints.

    ``unstable_partial_word_ratio``: words of partials that the next event of their utterance
    changes or removes (all after the common beginning), over the words of the finals (Shangguan
    et al., "Analyzing the quality and stability of a streaming end-to-end on-device speech
    recognizer", 2020). ``stable_text_violations``: events that break what a ``stable_text``
    promised.

    Times are of right words that could be placed. Delays count from a word's end in the
    recording to the audio fed when an event first had it at its place in the final
    (``first_partial``), and when ``stable_text`` or the final covered it (``stable``). Errors of
    word times are the event's minus the reference's: ``p50`` and ``p90`` without the sign,
    ``signed_p50`` with it.

    A word is right where the edits between reference and finals pair it with an equal one;
    for the last three figures see ``confidence.py``. ``unplaced_words`` are those of references
    that have no times; ``skipped`` counts lines and recordings that could not be read.
    """

    unstable_partial_word_ratio: float | None
    stable_text_violations: int
    first_partial_delay_ms: Percentiles
    stable_delay_ms: Percentiles
    word_start_error_ms: Percentiles
    word_end_error_ms: Percentiles
    confidence_auc: float | None
    calibration_error: float | None
    normalised_cross_entropy: float | None
    words: int
    right_words: int
    unplaced_words: int
    recordings: int
    skipped: int
    audio_seconds: float

    def as_json(self) -> dict[str, object]:
        """Plain values under the names above."""
        return asdict(self)

    def as_markdown(self) -> str:
        """A table of two columns."""
        rows: list[tuple[str, object]] = []
        for name, value in self.as_json().items():
            parts = value if isinstance(value, Mapping) else {"": value}
            rows += [(f"{name} {part}".strip(), figure) for part, figure in parts.items()]
        return markdown_table(("figure", "value"), rows)


class LiveMeasures:
    """Added up over recordings. ``confidences`` are those of all words of finals, ``right`` says
    which were."""

    def __init__(self) -> None:
        self.confidences: list[float] = []
        self.right: list[bool] = []
        self._unstable = 0
        self._violations = 0
        self._unplaced = 0
        self._first_delays: list[float] = []
        self._stable_delays: list[float] = []
        self._start_errors: list[float] = []
        self._end_errors: list[float] = []

    def add(self, shown: Sequence[Shown], said: Sequence[SaidWord]) -> None:
        """One recording: all events of its stream, in order, and the words of its reference."""
        utterances: dict[int, list[_View]] = {}
        for seconds, event in shown:
            if isinstance(event, Partial | Final):
                utterances.setdefault(event.utterance, []).append(_View.of(seconds, event))
        heard: list[_HeardWord] = []
        for views in utterances.values():
            self._unstable += sum(
                len(view.words) - _common(view.words, after.words)
                for view, after in pairwise(views)
            )
            self._violations += _violations(views)
            heard += _heard_words(views)
        pairs = equal_pairs([each.word for each in said], [each.word for each in heard])
        right = {place for _, place in pairs}
        self.confidences += [each.confidence for each in heard]
        self.right += [place in right for place in range(len(heard))]
        self._unplaced += sum(each.start_seconds is None for each in said)
        for said_place, heard_place in pairs:
            self._time(said[said_place], heard[heard_place])

    def _time(self, said: SaidWord, heard: "_HeardWord") -> None:
        if said.start_seconds is None or said.end_seconds is None:
            return
        self._first_delays.append(heard.first_seconds - said.end_seconds)
        self._stable_delays.append(heard.stable_seconds - said.end_seconds)
        self._start_errors.append(heard.start_seconds - said.start_seconds)
        self._end_errors.append(heard.end_seconds - said.end_seconds)

    def figures(self, *, recordings: int, skipped: int, audio_seconds: float) -> LiveFigures:
        """Of all that was added."""
        confidences, right = np.array(self.confidences), np.array(self.right, np.bool_)
        words = len(right)
        return LiveFigures(
            unstable_partial_word_ratio=_rounded(self._unstable / words if words else None),
            stable_text_violations=self._violations,
            first_partial_delay_ms=_percentiles(self._first_delays),
            stable_delay_ms=_percentiles(self._stable_delays),
            word_start_error_ms=_error_percentiles(self._start_errors),
            word_end_error_ms=_error_percentiles(self._end_errors),
            confidence_auc=_rounded(area_under_roc(confidences, right)),
            calibration_error=_rounded(calibration_error(reliability(confidences, right))),
            normalised_cross_entropy=_rounded(normalised_cross_entropy(confidences, right)),
            words=words,
            right_words=int(right.sum()),
            unplaced_words=self._unplaced,
            recordings=recordings,
            skipped=skipped,
            audio_seconds=round(audio_seconds, 1),
        )


class _View(NamedTuple):
    """What an event put on a viewer's screen."""

    audio_seconds: float
    words: list[str]
    stable: list[str]
    event: Partial | Final

    @classmethod
    def of(cls, audio_seconds: float, event: Partial | Final) -> "_View":
        stable_text = event.text if isinstance(event, Final) else event.stable_text
        return cls(audio_seconds, event.text.split(), stable_text.split(), event)


class _HeardWord(NamedTuple):
    """A word of a final; ``first_seconds`` and ``stable_seconds`` of audio were fed when it
    first stood at its place and when it could no longer change."""

    word: str
    confidence: float
    start_seconds: float
    end_seconds: float
    first_seconds: float
    stable_seconds: float


def _heard_words(views: Sequence[_View]) -> list[_HeardWord]:
    """Those of the utterance's final; none without one."""
    final = views[-1].event
    if not isinstance(final, Final):
        return []
    return [
        _HeardWord(
            word.word,
            word.confidence,
            word.start_seconds,
            word.end_seconds,
            next(v.audio_seconds for v in views if v.words[place : place + 1] == [word.word]),
            next(v.audio_seconds for v in views if len(v.stable) > place),
        )
        for place, word in enumerate(final.words)
    ]


def _common(words: Sequence[str], others: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(words, others, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(words), len(others)))


def _violations(views: Sequence[_View]) -> int:
    """Events of an utterance that do not begin with their own and every earlier stable text."""
    promised: list[list[str]] = []
    count = 0
    for view in views:
        promised.append(view.stable)
        count += any(view.words[: len(stable)] != stable for stable in promised)
    return count


def _percentiles(seconds: Sequence[float]) -> Percentiles:
    if not seconds:
        return {"p50": None, "p90": None}
    p50, p90 = np.percentile(seconds, (50, 90))
    return {"p50": round(1000 * float(p50), 1), "p90": round(1000 * float(p90), 1)}


def _error_percentiles(seconds: Sequence[float]) -> Percentiles:
    signed = _percentiles(seconds)["p50"]
    return {**_percentiles([abs(error) for error in seconds]), "signed_p50": signed}


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)
