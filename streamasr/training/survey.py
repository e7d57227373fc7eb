"""``streamasr inspect``: what a manifest holds, before anybody trains on it.

Of the audio only the headers are read, so thousands of recordings take seconds; the pictures
decode a few of them whole.
"""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from streamasr.config import FeatureConfig, shipped
from streamasr.decoder.lexicon import Lexicon
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.frontend.logmel import Frames, LogMel
from streamasr.training.manifest import Recording, audio_seconds, read_manifest, read_samples
from streamasr.training.plots import new_figure, save_figure

DURATION_TOLERANCE_SECONDS = 0.1
BIGGEST_SPEAKERS = 10
FREQUENT_WORDS = 30
NAMED_PROBLEMS = 20  # of a kind; lines that are skipped are always all named
BAR_CELLS = 40
MOST_BARS = 20
BAR_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0)
SPECTROGRAMS = 6
SPECTROGRAM_SECONDS = 15.0


class Speaker(NamedTuple):
    """How much somebody said."""

    name: str
    recordings: int
    hours: float


class DurationBar(NamedTuple):
    """How many recordings are at least ``from_seconds`` and below ``to_seconds`` long."""

    from_seconds: float
    to_seconds: float
    recordings: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What ``streamasr inspect`` found.

    ``recordings`` are those that can be decoded, with the durations that their files have; all
    figures are of them. ``words`` counts every word of their texts. ``missing_words`` are those
    that the lexicon lacks. ``skipped`` (lines of the manifest), ``undecodable`` (files) and
    ``differing`` (durations) have a sentence for each.
    """

    manifest: Path
    recordings: tuple[Recording, ...]
    words: Counter[str]
    missing_words: Counter[str]
    skipped: tuple[str, ...]
    undecodable: tuple[str, ...]
    differing: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Of all recordings together."""
        return sum(recording.duration_seconds for recording in self.recordings) / 3600

    @property
    def speakers(self) -> list[Speaker]:
        """Who said most comes first."""
        recordings = Counter(recording.speaker for recording in self.recordings)
        hours = dict.fromkeys(recordings, 0.0)
        for recording in self.recordings:
            hours[recording.speaker] += recording.duration_seconds / 3600
        speakers = [Speaker(name, count, hours[name]) for name, count in recordings.items()]
        return sorted(speakers, key=lambda speaker: (-speaker.hours, speaker.name))

    @property
    def durations(self) -> list[DurationBar]:
        """A histogram from 0 s to the longest recording, in at most ``MOST_BARS`` equal bars."""
        # In whole milliseconds, because 1.0 // 0.1 is 9.
        lengths_ms = [round(1000 * recording.duration_seconds) for recording in self.recordings]
        longest_ms = max(lengths_ms, default=0)
        widths_ms = [round(1000 * seconds) for seconds in BAR_SECONDS]
        width_ms = next((width for width in widths_ms if longest_ms < width * MOST_BARS), None)
        width_ms = width_ms or longest_ms // (MOST_BARS - 1)
        counts = Counter(length // width_ms for length in lengths_ms)
        return [
            DurationBar(bar * width_ms / 1000, (bar + 1) * width_ms / 1000, counts[bar])
            for bar in range(max(counts, default=-1) + 1)
        ]

    def as_json(self) -> dict[str, object]:
        """Plain values; words by how often they are said."""
        return {
            "manifest": str(self.manifest),
            "recordings": len(self.recordings),
            "hours": round(self.hours, 3),
            "speakers": [
                {**speaker._asdict(), "hours": round(speaker.hours, 4)} for speaker in self.speakers
            ],
            "durations": [bar._asdict() for bar in self.durations],
            "words": self.words.total(),
            "distinct_words": len(self.words),
            "frequent_words": dict(self.words.most_common(FREQUENT_WORDS)),
            "missing_words": dict(self.missing_words.most_common()),
            "skipped": self.skipped,
            "undecodable": self.undecodable,
            "differing_durations": self.differing,
        }


def survey(manifest: Path, lexicon: Lexicon) -> Survey:
    """Look through ``manifest`` and at the headers of its audio files.

    Raises ConfigError for a manifest that cannot be read or has no usable line.
    """
    read = read_manifest(manifest, skip_foreign_texts=True)
    recordings: list[Recording] = []
    undecodable: list[str] = []
    differing: list[str] = []
    terminal = Console(stderr=True)
    for recording in track(
        read.recordings,
        "inspect",
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    ):
        try:
            seconds = audio_seconds(recording.path)
        except AudioFormatError as error:
            undecodable.append(str(error))
            continue
        if not abs(seconds - recording.duration_seconds) <= DURATION_TOLERANCE_SECONDS:  # or nan
            differing.append(
                f"{recording.path} lasts {seconds:.3f} s, not {recording.duration_seconds:.3f} s"
            )
        recordings.append(replace(recording, duration_seconds=seconds))
    words = Counter(word for recording in recordings for word in recording.text.split())
    return Survey(
        manifest=manifest,
        recordings=tuple(recordings),
        words=words,
        missing_words=Counter({word: n for word, n in words.items() if word not in lexicon}),
        skipped=read.skipped,
        undecodable=tuple(undecodable),
        differing=tuple(differing),
    )


def inspect_manifest(manifest: Path, out: Path | None = None, *, as_json: bool = False) -> None:
    """``streamasr inspect``: print tables or one JSON object; with ``out``, write pictures there.

    Raises ConfigError for a manifest without a usable line and for pictures that cannot be
    written, LanguageModelError where the shipped lexicon is missing.
    """
    surveyed = survey(manifest, Lexicon.load(shipped("lm", "lexicon.txt.xz")))
    pictures = () if out is None else write_pictures(surveyed, out)
    if as_json:
        print(json.dumps(surveyed.as_json()))
        return
    print_tables(surveyed, Console())
    for picture in pictures:
        print(picture)


# ---- Tables. --------------------------------------------------------------------------------


def print_tables(surveyed: Survey, console: Console) -> None:
    """Everything that was found, for people."""
    console.print(_facts(surveyed))
    console.print(_speaker_table(surveyed.speakers))
    console.print(_duration_table(surveyed.durations))
    _print_words(console, "most frequent words", surveyed.words)
    _print_words(console, "missing from the lexicon", surveyed.missing_words)
    _print_problems(console, "lines skipped", surveyed.skipped, named=None)
    _print_problems(console, "files that cannot be decoded", surveyed.undecodable)
    _print_problems(console, "durations that are not the file's", surveyed.differing)


def _facts(surveyed: Survey) -> Table:
    table = Table(title=Text(str(surveyed.manifest)), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in {
        "recordings": f"{len(surveyed.recordings):,}",
        "hours": f"{surveyed.hours:.2f}",
        "speakers": f"{len(surveyed.speakers):,}",
        "words": f"{surveyed.words.total():,}",
        "distinct words": f"{len(surveyed.words):,}",
        "distinct words missing from the lexicon": f"{len(surveyed.missing_words):,}",
        "lines skipped": f"{len(surveyed.skipped):,}",
        "files that cannot be decoded": f"{len(surveyed.undecodable):,}",
        "durations that are not the file's": f"{len(surveyed.differing):,}",
    }.items():
        table.add_row(name, value)
    return table


def _speaker_table(speakers: Sequence[Speaker]) -> Table:
    table = Table("speaker", title=f"biggest of {len(speakers):,} speakers")
    table.add_column("recordings", justify="right")
    table.add_column("hours", justify="right")
    for speaker in speakers[:BIGGEST_SPEAKERS]:
        table.add_row(Text(speaker.name), f"{speaker.recordings:,}", f"{speaker.hours:.3f}")
    return table


def _duration_table(durations: Sequence[DurationBar]) -> Table:
    table = Table(title="durations")
    table.add_column("seconds", justify="right")
    table.add_column("recordings", justify="right")
    table.add_column("", min_width=BAR_CELLS)
    most = max((bar.recordings for bar in durations), default=1)
    for bar in durations:
        cells = -(-bar.recordings * BAR_CELLS // most)  # rounded up: one recording is visible
        table.add_row(
            f"{bar.from_seconds:g} to {bar.to_seconds:g}", f"{bar.recordings:,}", "█" * cells
        )
    return table


def _print_words(console: Console, title: str, words: Counter[str]) -> None:
    """The first ``FREQUENT_WORDS``, each with how often it is said."""
    if words:
        left_out = max(0, len(words) - FREQUENT_WORDS)
        console.print(f"\n{title}" + (f" ({left_out:,} more not shown):" if left_out else ":"))
        shown = [f"{word} {count:,}" for word, count in words.most_common(FREQUENT_WORDS)]
        console.print(Columns(map(Text, shown), padding=(0, 3)))


def _print_problems(
    console: Console, title: str, problems: Sequence[str], named: int | None = NAMED_PROBLEMS
) -> None:
    """A line for each of the first ``named`` problems, for all if None."""
    if problems:
        console.print(f"\n{title}:")
        for problem in problems[:named]:
            console.print(Text(f"  {problem}"), soft_wrap=True)
        if named is not None and len(problems) > named:
            console.print(f"  and {len(problems) - named:,} more; --json names them all")


# ---- Pictures. ------------------------------------------------------------------------------


def write_pictures(surveyed: Survey, folder: Path) -> tuple[Path, ...]:
    """Write ``durations.png``, ``words.png`` and ``spectrograms.png`` into ``folder``.

    Returns their paths. Raises ConfigError where they cannot be written or matplotlib is
    missing.
    """
    durations, words, spectrograms = (
        folder / f"{name}.png" for name in ("durations", "words", "spectrograms")
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"no pictures can be kept in {folder}: {error.strerror}") from None
    _draw_durations(surveyed.durations, durations)
    _draw_words(surveyed.words.most_common(FREQUENT_WORDS), words)
    _draw_spectrograms(surveyed.recordings, spectrograms)
    return durations, words, spectrograms


def _draw_durations(durations: Sequence[DurationBar], picture: Path) -> None:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    axes.bar(
        [bar.from_seconds for bar in durations],
        [bar.recordings for bar in durations],
        width=[bar.to_seconds - bar.from_seconds for bar in durations],
        align="edge",
        edgecolor="white",
    )
    axes.set_xlabel("seconds")
    axes.set_ylabel("recordings")
    save_figure(figure, picture)


def _draw_words(words: Sequence[tuple[str, int]], picture: Path) -> None:
    figure = new_figure(8, 7)
    axes = figure.subplots()
    axes.barh([word for word, _ in words], [count for _, count in words])
    axes.invert_yaxis()
    axes.set_xlabel("times said")
    save_figure(figure, picture)


def _draw_spectrograms(recordings: Sequence[Recording], picture: Path) -> None:
    """Log-mel frames of recordings from all over the manifest, with their texts.

    Recordings whose audio turns out to be damaged or shorter than a frame are left out.
    """
    figure = new_figure(11, 8)
    config = FeatureConfig()
    seconds_a_frame = config.hop_samples / config.sample_rate_hz
    shown = list(_frames_of(_spread(recordings, SPECTROGRAMS), LogMel(config)))
    for number, (recording, frames) in enumerate(shown, start=1):
        axes = figure.add_subplot(-(-len(shown) // 2), 2, number)
        seconds = len(frames) * seconds_a_frame
        axes.imshow(
            frames.T, origin="lower", aspect="auto", extent=(0.0, seconds, 0.0, float(config.mels))
        )
        title = f"{recording.speaker}: {recording.text}"
        title = textwrap.fill(title, 60, max_lines=2, placeholder=" …")
        axes.set_title(title, fontsize="small", parse_math=False)
        axes.set_xlabel("seconds")
        axes.set_ylabel("mel")
    save_figure(figure, picture)


def _spread(recordings: Sequence[Recording], count: int) -> list[Recording]:
    """At most ``count`` recordings, evenly spaced."""
    places = np.linspace(0, len(recordings) - 1, min(count, len(recordings)))
    return [recordings[round(place)] for place in places]


def _frames_of(
    recordings: Iterable[Recording], logmel: LogMel
) -> Iterable[tuple[Recording, Frames]]:
    """Each recording with its first ``SPECTROGRAM_SECONDS`` as ``(frames, mels)``."""
    rate_hz = logmel.config.sample_rate_hz
    for recording in recordings:
        try:
            samples = read_samples(recording.path, rate_hz)
        except AudioFormatError:
            continue
        frames = logmel(samples[: round(SPECTROGRAM_SECONDS * rate_hz)])
        if len(frames):
            yield recording, frames
