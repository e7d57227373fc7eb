"""Finals to SRT and WebVTT cues with lines that can be read."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from streamasr.events import Final, Word

SubtitleFormat = Literal["srt", "vtt"]
LINE_CHARACTERS = 42
CUE_LINES = 2
CUE_SECONDS = 6.0
SHORTEST_CUE_SECONDS = 1.0
VTT_HEADER = "WEBVTT\n\n"


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands on the screen from ``start_seconds`` to ``end_seconds``."""

    start_seconds: float
    end_seconds: float
    lines: tuple[str, ...]


def cues(
    finals: Iterable[Final], *, shift_seconds: float = 0.0, after_seconds: float = 0.0
) -> Iterator[Cue]:
    """Cues of at most ``CUE_LINES`` balanced lines of ``LINE_CHARACTERS`` and of ``CUE_SECONDS``
    of words; a longer word has a line of its own.

    ``shift_seconds`` is added to every time. A cue stays for ``SHORTEST_CUE_SECONDS`` where the
    next one leaves room. Whatever the words say, cues begin at ``after_seconds`` or later, none
    begins before the one before has ended, and each lasts a millisecond at least.
    """
    groups = [group for final in finals for group in _groups(_words(final))]
    for group, following in itertools.zip_longest(groups, groups[1:]):
        start = round(max(group[0].start_seconds + shift_seconds, after_seconds), 3)
        spoken = max(word.end_seconds for word in group) + shift_seconds
        end = min(max(spoken, start + SHORTEST_CUE_SECONDS), start + CUE_SECONDS)
        if following is not None:
            end = min(end, following[0].start_seconds + shift_seconds)
        after_seconds = round(max(end, start + 0.001), 3)
        yield Cue(start, after_seconds, _lines(group))


@dataclass(slots=True)
class SubtitleText:
    """The blocks of one file, as they come; numbers and times go on from those given."""

    format: SubtitleFormat
    number: int = 0
    end_seconds: float = 0.0

    def blocks(self, finals: Iterable[Final], shift_seconds: float = 0.0) -> Iterator[str]:
        """The blocks of further finals, whose times are ``shift_seconds`` later in the file."""
        for cue in cues(finals, shift_seconds=shift_seconds, after_seconds=self.end_seconds):
            self.number += 1
            self.end_seconds = cue.end_seconds
            yield srt(self.number, cue) if self.format == "srt" else vtt(cue)


def srt(number: int, cue: Cue) -> str:
    """One SubRip block; ``number`` counts from 1."""
    lines = (line.replace("-->", "->") for line in cue.lines)
    return "\n".join([str(number), _times(cue, ","), *lines, "", ""])


def vtt(cue: Cue) -> str:
    """One WebVTT block; the file begins with ``VTT_HEADER``."""
    escaped = (
        line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in cue.lines
    )
    return "\n".join([_times(cue, "."), *escaped, "", ""])


def _words(final: Final) -> list[Word]:
    """Its words without line breaks; where it has none, its text spread over its time."""
    if final.words:
        joined = ((" ".join(word.word.split()), word) for word in final.words)
        return [Word(t, w.start_seconds, w.end_seconds, w.confidence) for t, w in joined if t]
    texts = final.text.split()
    seconds = max(0.0, final.end_seconds - final.start_seconds) / max(1, len(texts))
    starts = (final.start_seconds + number * seconds for number in range(len(texts)))
    return [
        Word(text, start, start + seconds, final.confidence)
        for text, start in zip(texts, starts, strict=True)
    ]


def _groups(words: Sequence[Word]) -> list[Sequence[Word]]:
    """The words of each cue: as few cues as can be, and of those the most even ones."""
    # best[n] are the cues of the first n words: how many, the sum of their squared lengths, and
    # where the last one begins, negative to take the later of two that are as good.
    best = [(0, 0, 0)]
    for end in range(1, len(words) + 1):
        ways = []
        for first in range(end - 1, -1, -1):
            group = words[first:end]
            if len(group) > 1 and not _fits(group):
                break
            count, squares, _ = best[first]
            ways.append((count + 1, squares + len(_text(group)) ** 2, -first))
        best.append(min(ways))
    groups: list[Sequence[Word]] = []
    end = len(words)
    while end:
        first = -best[end][2]
        groups.append(words[first:end])
        end = first
    return groups[::-1]


def _fits(words: Sequence[Word]) -> bool:
    lines = _lines(words)
    return (
        words[-1].end_seconds - words[0].start_seconds <= CUE_SECONDS
        and len(lines) <= CUE_LINES
        and all(len(line) <= LINE_CHARACTERS or " " not in line for line in lines)
    )


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    """One line where it is short enough, else the two that are most alike; a line that is still
    too long has to be a single word."""
    whole = _text(words)
    if len(whole) <= LINE_CHARACTERS or len(words) == 1:
        return (whole,)
    pairs = [(_text(words[:first]), _text(words[first:])) for first in range(1, len(words))]
    return min(
        pairs,
        key=lambda pair: (
            sum(len(line) > LINE_CHARACTERS and " " in line for line in pair),
            max(map(len, pair)),
        ),
    )


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.word for word in words)


def _times(cue: Cue, point: str) -> str:
    return f"{_clock(cue.start_seconds, point)} --> {_clock(cue.end_seconds, point)}"


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
