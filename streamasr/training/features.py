"""Log-mel frames of whole manifests, computed once and kept on disk.

Each recording is decoded, played at every speed of ``SPEEDS`` (resampling changes tempo
and pitch together: Ko et al., "Audio augmentation for speech recognition", 2015) and
passed through the same ``LogMel`` that the daemon uses. Frames are kept as float16 in
one file that is memory-mapped, so training starts at once the second time.
"""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from streamasr.config import FeatureConfig
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.frontend.logmel import LogMel
from streamasr.training.manifest import Manifest, Recording, read_samples

SPEEDS = (0.9, 1.0, 1.1)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Where one recording at one speed lies in the frame file, and how its words are said:
    ``pronunciations`` count in the lexicon; where there are none, each word's first."""

    text: str
    speaker: str
    speed: float
    first_frame: int
    frames: int
    pronunciations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """All frames ``(total, mels)`` and what lies where."""

    frames: NDArray[np.float16]
    utterances: tuple[Utterance, ...]
    skipped: tuple[str, ...]

    def of(self, utterance: Utterance) -> NDArray[np.float16]:
        """``(utterance.frames, mels)``: a view, not a copy."""
        return self.frames[utterance.first_frame : utterance.first_frame + utterance.frames]


def open_features(
    manifests: list[Manifest],
    config: FeatureConfig,
    folder: Path,
    *,
    speeds: tuple[float, ...] = SPEEDS,
    processes: int = 2,
) -> FeatureStore:
    """The features of ``manifests``, from ``folder`` or computed into it.

    A recording that cannot be decoded is skipped and named. Raises ConfigError where
    nothing is left or the disk cannot hold the features.
    """
    recordings = [recording for manifest in manifests for recording in manifest.recordings]
    wanted = json.dumps(
        [asdict(config), speeds, [(str(r.path), r.duration_seconds, r.text) for r in recordings]]
    )
    stem = folder / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    frames_path, index_path = stem.with_suffix(".f16"), stem.with_suffix(".json")
    if not index_path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _compute(recordings, config, speeds, frames_path, index_path, processes)
        except OSError as error:
            raise ConfigError(f"features cannot be kept in {folder}: {error}") from None
    index = json.loads(index_path.read_text())
    utterances = tuple(Utterance(*row) for row in index["utterances"])
    if not utterances:
        raise ConfigError("none of the recordings in the manifests can be decoded")
    frames = np.memmap(frames_path, np.float16, "r").reshape(-1, config.mels)
    return FeatureStore(frames, utterances, tuple(index["skipped"]))


def _compute(
    recordings: list[Recording],
    config: FeatureConfig,
    speeds: tuple[float, ...],
    frames_path: Path,
    index_path: Path,
    processes: int,
) -> None:
    utterances: list[Utterance] = []
    skipped: list[str] = []
    first = 0
    jobs = ((recording, config, speeds) for recording in recordings)
    with (
        frames_path.open("wb") as file,
        ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool,
    ):
        results = pool.map(_features, jobs, chunksize=16)
        for recording, result in track(
            zip(recordings, results, strict=True),
            "features",
            total=len(recordings),
            console=Console(stderr=True),
        ):
            if isinstance(result, str):
                skipped.append(result)
                continue
            for speed, frames in zip(speeds, result, strict=True):
                file.write(frames.tobytes())
                utterances.append(
                    Utterance(recording.text, recording.speaker, speed, first, len(frames))
                )
                first += len(frames)
    rows = [[u.text, u.speaker, u.speed, u.first_frame, u.frames] for u in utterances]
    partial = index_path.with_suffix(".tmp")
    partial.write_text(json.dumps({"utterances": rows, "skipped": skipped}))
    partial.replace(index_path)


def _features(
    job: tuple[Recording, FeatureConfig, tuple[float, ...]],
) -> list[NDArray[np.float16]] | str:
    recording, config, speeds = job
    try:
        samples = read_samples(recording.path, config.sample_rate_hz)
    except AudioFormatError as error:
        return str(error)
    logmel = LogMel(config)
    result = []
    for speed in speeds:
        played = samples
        if speed != 1.0:
            rate_hz = config.sample_rate_hz
            played = soxr.resample(samples, rate_hz * speed, rate_hz, quality="MQ")
        frames = logmel(np.ascontiguousarray(played, np.float32))
        if len(frames) == 0:
            return f"{recording.path} is shorter than one frame"
        result.append(frames.astype(np.float16))
    return result
