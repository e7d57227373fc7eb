"""What was measured, a row an hour, and what must hold of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from streamasr.events import Final
from streamasr.soak.programme import Span

MOST_GROWTH = 0.02
"""Of resident memory, from the second row to the last."""
MOST_SLOWDOWN = 0.15
"""Of the control, from the first quarter of the rows to the last, where a fresh stream beside
the daemon needs as long as before."""
FEWEST_HEARD = 0.95
"""Of the recordings of speech in quiet, those that some final overlaps."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the programme; ``audio_hours`` is where it ends.

    Memory is the mean of several looks, in MB: resident, and the part of it that no file backs.
    ``chunk_p50_ms`` and ``chunk_p95_ms`` are of the computing for a chunk of the control, which
    is the same audio in every row; the ``fresh`` ones are those of a new stream in another
    process, just before. ``load`` is processor seconds a second of the whole row.
    """

    audio_hours: float
    wall_seconds: float
    resident_mb: float
    anonymous_mb: float
    chunk_p50_ms: float
    chunk_p95_ms: float
    fresh_p50_ms: float
    fresh_p95_ms: float
    load: float
    open_files: int
    threads: int
    finals: int


_COLUMNS = (
    ("audio h", "audio_hours", ".2f"),
    ("wall s", "wall_seconds", ".0f"),
    ("resident MB", "resident_mb", ".1f"),
    ("anonymous MB", "anonymous_mb", ".1f"),
    ("chunk p50 ms", "chunk_p50_ms", ".1f"),
    ("p95 ms", "chunk_p95_ms", ".1f"),
    ("fresh p50 ms", "fresh_p50_ms", ".1f"),
    ("p95 ms", "fresh_p95_ms", ".1f"),
    ("load", "load", ".4f"),
    ("files", "open_files", "d"),
    ("threads", "threads", "d"),
    ("finals", "finals", "d"),
)
HEADER = "  ".join(f"{title:>7}" for title, *_ in _COLUMNS)


def row_line(row: Row) -> str:
    """A line below ``HEADER``."""
    return "  ".join(
        f"{getattr(row, name):>{max(7, len(title))}{form}}" for title, name, form in _COLUMNS
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something held, and what was measured."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Report:
    """The rows that were finished, and what holds of them."""

    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, object]:
        """``passed``, ``verdicts`` by name, ``rows``."""
        verdicts = {v.name: {"passed": v.passed, "found": v.found} for v in self.verdicts}
        rows = [asdict(row) for row in self.rows]
        return {"passed": self.passed, "verdicts": verdicts, "rows": rows}


def percentile_ms(share: float, before: dict[float, float], after: dict[float, float]) -> float:
    """Of what a Prometheus histogram counted in between, in milliseconds; linear within a
    bucket. ``nan`` where it counted nothing."""
    bounds = sorted(after)
    counts = [after[bound] - before[bound] for bound in bounds]
    wanted = share * counts[-1]
    lower_count, lower_bound = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= wanted and count > lower_count:
            if np.isinf(bound):
                break
            part = (wanted - lower_count) / (count - lower_count)
            return 1000 * (lower_bound + part * (bound - lower_bound))
        lower_count, lower_bound = count, bound
    return 1000 * lower_bound if counts[-1] else float("nan")


def memory(rows: Sequence[Row]) -> Verdict:
    """The last row against the second."""
    second, last = rows[1], rows[-1]
    growth = last.resident_mb / second.resident_mb - 1
    return Verdict(
        "memory",
        growth <= MOST_GROWTH,
        f"{last.resident_mb:.1f} MB resident in the last row, {second.resident_mb:.1f} MB in the "
        f"second: {growth:+.2%}, at most {MOST_GROWTH:+.0%}",
    )


def latency(rows: Sequence[Row]) -> Verdict:
    """The daemon against a fresh stream, in the last quarter of the rows and in the first."""
    quarter = max(1, len(rows) // 4)
    found, passed = [], True
    for share in ("p50", "p95"):
        early, late = (
            np.median(
                [getattr(r, f"chunk_{share}_ms") / getattr(r, f"fresh_{share}_ms") for r in q]
            )
            for q in (rows[:quarter], rows[-quarter:])
        )
        passed &= bool(late <= (1 + MOST_SLOWDOWN) * early)
        found.append(f"{share} {early:.2f} and {late:.2f}: {late / early - 1:+.1%}")
    return Verdict(
        "latency",
        passed,
        "a chunk of the control in times of a fresh stream's, medians of the first and the last "
        f"quarter: {', '.join(found)}; at most {MOST_SLOWDOWN:+.0%}",
    )


def constant(rows: Sequence[Row]) -> Verdict:
    """Open files and threads, when only the viewer that stays is there."""
    files, threads = {row.open_files for row in rows}, {row.threads for row in rows}
    return Verdict(
        "files and threads",
        len(files) == len(threads) == 1,
        f"{_list(files)} open files and {_list(threads)} threads at the ends of the rows",
    )


def numbered(utterances: Sequence[int], speakers_finals: int, counted: int, losses: int) -> Verdict:
    """The viewer missed no final: their numbers are consecutive from 0, and with the speakers'
    they are as many as the daemon counts."""
    gaps = sum(after != before + 1 for before, after in pairwise((-1, *utterances)))
    return Verdict(
        "finals",
        gaps == losses == 0 and len(utterances) + speakers_finals == counted,
        f"{len(utterances)} to the viewer and {speakers_finals} to speakers, {counted} counted by "
        f"the daemon; {gaps} gaps in their numbers, {losses} lost connections",
    )


def same_words(name: str, texts: Sequence[tuple[str, ...]]) -> Verdict:
    """The same sound gave the same words every time, and some."""
    differing = sum(each != texts[0] for each in texts)
    return Verdict(
        name,
        differing == 0 and bool(texts) and bool(texts[0]),
        f"the same recording {len(texts)} times: {differing} times other words than first",
    )


Heard = Sequence[tuple[float, str]]
"""A row's finals: seconds after its beginning, and text."""


def repeated(first: Sequence[Heard], again: Sequence[Heard]) -> Verdict:
    """The rows of the second half heard what those of the first did, when they did."""
    differing = sum(len(set(a) ^ set(b)) for a, b in zip(first, again, strict=True))
    return Verdict(
        "repeats",
        differing == 0,
        f"{sum(map(len, again))} finals of audio that was heard before, {differing} that only "
        "one of both times has",
    )


def heard(spoken: Sequence[Span], finals: Sequence[Final]) -> Verdict:
    """Recordings of speech in quiet have finals; some hold nothing that can be understood."""
    with_words = sum(
        any(
            final.start_seconds < span.end_seconds and final.end_seconds > span.start_seconds
            for final in finals
        )
        for span in spoken
    )
    return Verdict(
        "speech",
        with_words >= FEWEST_HEARD * len(spoken),
        f"{with_words} of {len(spoken)} recordings of speech in quiet have words, at least "
        f"{FEWEST_HEARD:.0%}",
    )


def _list(values: set[int]) -> str:
    return ", ".join(map(str, sorted(values)))
