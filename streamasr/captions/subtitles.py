"""Finals to SRT and WebVTT cues with lines that can be read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from streamasr.events import Final, Word

LINE_CHARACTERS = 42
CUE_LINES = 2
CUE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands on the screen from ``start_seconds`` to ``end_seconds``."""

    start_seconds: float
    end_seconds: float
    lines: tuple[str, ...]


def cues(finals: Iterable[Final]) -> Iterator[Cue]:
    """At most ``CUE_LINES`` lines of ``LINE_CHARACTERS`` and ``CUE_SECONDS`` a cue; a longer
    word has a line of its own. A cue never lasts into the next one."""
    for final in finals:
        group: list[Word] = []
        for word in final.words:
            longer = [*group, word]
            too_long = word.end_seconds - longer[0].start_seconds > CUE_SECONDS
            if group and (too_long or len(_lines(longer)) > CUE_LINES):
                yield _cue(group)
                longer = [word]
            group = longer
        if group:
            yield _cue(group)


def srt(number: int, cue: Cue) -> str:
    """One SubRip block; ``number`` counts from 1."""
    start, end = (_clock(s, ",") for s in (cue.start_seconds, cue.end_seconds))
    return "\n".join([str(number), f"{start} --> {end}", *cue.lines, "", ""])


def vtt(cue: Cue) -> str:
    """One WebVTT block; the file begins with ``VTT_HEADER``."""
    start, end = (_clock(s, ".") for s in (cue.start_seconds, cue.end_seconds))
    return "\n".join([f"{start} --> {end}", *cue.lines, "", ""])


VTT_HEADER = "WEBVTT\n\n"


def _cue(words: Sequence[Word]) -> Cue:
    return Cue(words[0].start_seconds, words[-1].end_seconds, tuple(_lines(words)))


def _lines(words: Sequence[Word]) -> list[str]:
    lines = [words[0].word]
    for word in words[1:]:
        longer = f"{lines[-1]} {word.word}"
        if len(longer) <= LINE_CHARACTERS:
            lines[-1] = longer
        else:
            lines.append(word.word)
    return lines


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
