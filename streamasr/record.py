"""``streamasr record``: prompts in, clips of your own voice and a manifest out.

The microphone is read all the time; its sample clock counts down and ends a clip. A clip is
written whole or not at all, and only then its line is appended to the manifest, so a session
can be broken off anywhere; the same command goes on with what is missing.

::

    texts ─ plan ─→ clips ─ countdown, listen ─→ flaw? ─→ FLAC, 16 kHz mono
                                                    └───→ a line of the manifest
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamasr.capture.level import meter, peak_db
from streamasr.capture.microphone import Microphone
from streamasr.config import CaptureConfig
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.frontend.resample import Samples
from streamasr.training.manifest import COLUMNS, audio_seconds

SAMPLE_RATE_HZ = 16_000
FIRST_WORD_SECONDS = 2.0
NEXT_WORD_SECONDS = 0.5
SECONDS_LIMITS = (0.5, 30.0)
COUNTDOWN = ("3", "2", "1")
COUNT_SECONDS = 0.5
QUIET_PEAK_DB = -30.0
FULL_SCALE = 32_700 / 32_768
CLIPPED_SAMPLES = 8
# A session ends with its microphone; a sound server on a busy machine pauses now and then.
PATIENCE_SECONDS = 5.0
LONGEST_TEXT = 200  # letters; a file is named after its text


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """One session. ``seconds`` is the length of every clip; None goes by the text's words."""

    texts: tuple[str, ...]
    folder: Path
    manifest: Path
    seconds: float | None = None
    takes: int = 1
    speaker: str = "me"
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """Something to say, and where it goes."""

    text: str
    speaker: str
    path: Path
    seconds: float


def record(config: RecordConfig) -> None:
    """Record what is missing of a session, clip by clip, and say what came out.

    On a terminal a clip with a flaw can be said again; elsewhere it is kept and reported. What
    is recorded stays when the session is interrupted. Raises ConfigError for settings and files
    that cannot be used, AudioFormatError for an old clip that is damaged, CaptureError for a
    microphone that cannot be opened or goes away.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    clips = plan(config)
    lines = ManifestLines(config.manifest)
    missing = [clip for clip in clips if not clip.path.exists()]
    for clip in clips:
        if clip not in missing and not lines.has(clip):
            lines.add(clip)  # a session ended between the file and its line
    if not missing:
        console.print(f"{config.manifest}: all {len(clips)} clips are there")
        return
    microphone = Microphone(CaptureConfig(device=config.device), SAMPLE_RATE_HZ, PATIENCE_SECONDS)
    kept: dict[Path, str | None] = {}
    try:
        for number, clip in enumerate(missing, start=1):
            console.print(f"\n{number}/{len(missing)}  {clip.text}", style="bold")
            problem = _record_clip(clip, microphone, console)
            lines.add(clip)
            kept[clip.path] = problem
    finally:
        microphone.close()
        there = f", {len(clips) - len(missing)} were there" if len(missing) < len(clips) else ""
        console.print(f"\n{config.manifest}: {len(kept)} of {len(missing)} clips recorded{there}")
        _print_what_to_do(console, len(missing) - len(kept), kept)


def _print_what_to_do(console: Console, missing: int, kept: dict[Path, str | None]) -> None:
    if missing:
        console.print(f"the same command records the other {missing}")
    flaws = {path: problem for path, problem in kept.items() if problem is not None}
    if flaws:
        console.print("delete these and run the same command to record them again:")
        for path, problem in flaws.items():
            console.print(f"  {path}  {problem}")


def plan(config: RecordConfig) -> list[Clip]:
    """Every clip of the session: all texts once, then all again, ``takes`` times.

    Raises one ConfigError that names every setting that cannot be used.
    """
    texts = list(dict.fromkeys(" ".join(text.lower().split()) for text in config.texts))
    mistakes = list(_mistakes(config, texts))
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return [
        Clip(
            text=text,
            speaker=config.speaker,
            path=config.folder / config.speaker / f"{file_stem(text)}-{take}.flac",
            seconds=config.seconds or default_seconds(text),
        )
        for take in range(1, config.takes + 1)
        for text in texts
    ]


def _mistakes(config: RecordConfig, texts: Iterable[str]) -> Iterator[str]:
    strange = [text for text in texts if not re.fullmatch(r"[a-z' ]*[a-z][a-z' ]*", text)]
    if strange:
        named = ", ".join(map(repr, strange))
        yield f"cannot record {named}: spell it in letters, apostrophes and spaces"
    long = [text for text in texts if len(text) > LONGEST_TEXT]
    if long:
        yield f"{long[0][:20]!r}… is too long: at most {LONGEST_TEXT} letters"
    shortest, longest = SECONDS_LIMITS
    if config.seconds is not None and not shortest <= config.seconds <= longest:
        yield f"--seconds must be {shortest:g}..{longest:g}, not {config.seconds:g}"
    if config.takes < 1:
        yield f"--takes must be at least 1, not {config.takes}"
    if not f"{config.folder}{config.manifest}".isprintable():
        yield "--out and --manifest must be names without tabs and line ends"
    if not re.fullmatch(r"[\w-]+", config.speaker):
        yield f"--speaker must be letters, digits, - and _, not {config.speaker!r}"


def default_seconds(text: str) -> float:
    """Time to begin, to say ``text`` without haste, and to fall silent."""
    return FIRST_WORD_SECONDS + NEXT_WORD_SECONDS * (len(text.split()) - 1)


def file_stem(text: str) -> str:
    """``don't stop`` as ``don_t-stop``: no two texts share one."""
    return text.replace(" ", "-").replace("'", "_")


# ---- One clip. ------------------------------------------------------------------------------


def _record_clip(clip: Clip, microphone: Microphone, console: Console) -> str | None:
    """Record ``clip``, again and again if somebody asks for it; the flaw that it is left with.

    Raises DeviceLostError where the microphone goes away, ConfigError where the file cannot be
    written.
    """
    while True:
        _count_down(microphone, console)
        before = microphone.counts
        samples = _listen(clip.seconds, microphone, console)
        problem = flaw(samples)
        after = microphone.counts
        if (before.overrun_samples, before.overflows) != (after.overrun_samples, after.overflows):
            problem = "sound was lost: this machine is too busy"
        level = f"peak {peak_db(samples):.0f} dB"
        if problem is not None:
            console.print(f"   {problem} ({level})", style="yellow")
        if problem is None or not _again(console):
            break
    write_clip(clip, samples)
    console.print(f"   kept {clip.path}: {clip.seconds:g} s, {level}")
    return problem


def _count_down(microphone: Microphone, console: Console) -> None:
    microphone.read()  # everything since the last clip
    for count in COUNTDOWN:
        console.print(f"   {count} …", end="")
        for _ in microphone.blocks(COUNT_SECONDS):
            pass
    console.print("   speak")


def _listen(seconds: float, microphone: Microphone, console: Console) -> Samples:
    """The next ``seconds`` of sound as ``(n,)``, with a level meter on a terminal."""
    blocks: list[Samples] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for block in microphone.blocks(seconds):
            blocks.append(block)
            live.update(Text(f"   {meter(block)}"), refresh=True)
    return np.concatenate(blocks)[: round(seconds * SAMPLE_RATE_HZ)]


def flaw(samples: Samples) -> str | None:
    """What makes ``(n,)`` samples in -1..1 useless or harmful for training; None if nothing."""
    if peak_db(samples) < QUIET_PEAK_DB:
        return "too quiet: come closer or turn the microphone up"
    if np.count_nonzero(np.abs(samples) >= FULL_SCALE) >= CLIPPED_SAMPLES:
        return "clipped: step back or turn the microphone down"
    return None


def _again(console: Console) -> bool:
    """Whether to say it again; never where nobody can be asked."""
    if not sys.stdin.isatty():
        return False
    console.print("   Enter to say it again, k and Enter to keep it: ", end="")
    answer = sys.stdin.readline()
    return answer != "" and not answer.strip().lower().startswith("k")


def write_clip(clip: Clip, samples: Samples) -> None:
    """Write ``(n,)`` samples in -1..1 as 16-bit FLAC, whole or not at all.

    Raises ConfigError where the file cannot be written.
    """
    pcm = np.clip(np.round(samples * 32_768), -32_768, 32_767).astype(np.int16)
    draft = clip.path.with_suffix(".part")
    try:
        clip.path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(draft, pcm, SAMPLE_RATE_HZ, format="FLAC")
        draft.replace(clip.path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ConfigError(f"{clip.path} cannot be written: {error}") from None


# ---- The manifest. --------------------------------------------------------------------------


class ManifestLines:
    """Appends the lines of clips to a manifest.

    The constructor raises ConfigError for a file that is not a manifest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.resolve().parent
        try:
            self._lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"manifest {path} cannot be read: {error}") from None
        if self._lines and tuple(self._lines[0].split("\t")) != COLUMNS:
            raise ConfigError(
                f"{path} is not a manifest: it must begin with the header line "
                f"{' '.join(COLUMNS)}, tab-separated; choose another with --manifest"
            )

    def has(self, clip: Clip) -> bool:
        """Whether a line names the clip's file, whatever it says of it."""
        return any(line.split("\t")[0] == self._name(clip) for line in self._lines)

    def add(self, clip: Clip) -> None:
        """Append the line of a clip that has been written.

        A line that was there before (the file was deleted and recorded again) is replaced.
        Raises ConfigError where the manifest cannot be written, AudioFormatError where the
        clip cannot be read.
        """
        name = self._name(clip)
        try:
            seconds = audio_seconds(clip.path)
        except AudioFormatError as error:
            raise AudioFormatError(f"{error}: delete it to record it") from None
        line = f"{name}\t{seconds:.3f}\t{clip.speaker}\t{clip.text}"
        others = [known for known in self._lines if known.split("\t")[0] != name]
        try:
            if len(others) < len(self._lines):
                self._rewrite([*others, line])
            else:
                self._append([line] if self._lines else ["\t".join(COLUMNS), line])
        except OSError as error:
            raise ConfigError(
                f"manifest {self._path} cannot be written: {error.strerror}"
            ) from None

    def _name(self, clip: Clip) -> str:
        return os.path.relpath(clip.path.resolve(), self._folder)

    def _append(self, lines: Sequence[str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            text = "\n".join(lines) + "\n"
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the last line was cut off, or written by an editor
                    text = "\n" + text
            file.write(text.encode())
        self._lines += lines

    def _rewrite(self, lines: Sequence[str]) -> None:
        draft = self._path.with_name(self._path.name + ".part")
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draft.replace(self._path)
        self._lines = list(lines)
