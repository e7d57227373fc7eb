"""Manifests: TSV files that say which recording holds which words.

The header is ``path  duration_seconds  speaker  text``; paths are relative to the file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from streamasr.errors import AudioFormatError, ConfigError

Samples = NDArray[np.float32]
COLUMNS = ("path", "duration_seconds", "speaker", "text")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz' ")


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of a manifest; ``path`` is absolute, ``text`` lower case and in single spaces."""

    path: Path
    duration_seconds: float
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The readable lines of a manifest and one sentence for each line that is not."""

    path: Path
    recordings: tuple[Recording, ...]
    skipped: tuple[str, ...]


def read_manifest(path: Path, *, skip_foreign_texts: bool = False) -> Manifest:
    """Read ``path``; lines that cannot be read are named in ``skipped``.

    Raises ConfigError where the file is missing, has another header or no usable line, and
    for a text with characters that the network cannot write: leaving such lines out would
    train on less than was meant. With ``skip_foreign_texts`` those are named and left out.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"manifest {path} cannot be read: {error}") from None
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise ConfigError(
            f"manifest {path} must begin with the header line {' '.join(COLUMNS)}, tab-separated"
        )
    recordings, skipped = [], []
    for number, line in enumerate(lines[1:], start=2):
        try:
            recordings.append(_recording(path.resolve().parent, line))
        except ConfigError as error:
            if not skip_foreign_texts:
                raise ConfigError(f"{path}:{number}: {error}") from None
            skipped.append(f"{path}:{number}: {error}")
        except ValueError as error:
            skipped.append(f"{path}:{number}: {error}")
    if not recordings:
        raise ConfigError(
            f"manifest {path} has no usable line" + "".join(f"; {s}" for s in skipped)
        )
    return Manifest(path, tuple(recordings), tuple(skipped))


def _recording(folder: Path, line: str) -> Recording:
    fields = line.split("\t")
    if len(fields) != len(COLUMNS):
        raise ValueError(f"has {len(fields)} fields, not {len(COLUMNS)}")
    name, duration, speaker, text = fields
    text = " ".join(text.lower().split())
    strange = sorted(set(text) - _LETTERS)
    if strange:
        raise ConfigError(
            f"text has {' '.join(strange)}; write it in letters a-z, apostrophes and spaces"
        )
    if not text:
        raise ValueError("text is empty")
    return Recording(folder / name, float(duration), speaker, text)


def audio_seconds(path: Path) -> float:
    """How long a file's header says that it lasts. Raises AudioFormatError where it has none."""
    if not path.is_file():
        raise AudioFormatError(f"{path} is not there")
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw has no header
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
        raise AudioFormatError(f"{path} is not audio that can be read: {reason}") from None
    if info.frames == 0:
        raise AudioFormatError(f"{path} has no samples")
    return float(info.duration)


def read_samples(path: Path, sample_rate_hz: int) -> Samples:
    """A whole recording as mono samples at ``sample_rate_hz``.

    Raises AudioFormatError where the file cannot be decoded or is empty.
    """
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioFormatError(f"{path} cannot be read as audio: {error}") from None
    if len(samples) == 0:
        raise AudioFormatError(f"{path} has no samples")
    mono: Samples = samples.mean(axis=1, dtype=np.float32)
    if rate_hz != sample_rate_hz:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz, quality="HQ").astype(np.float32)
    return mono
