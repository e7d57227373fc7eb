"""Noise mixed into recordings at a given ratio, the same for the same recording every time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.config import FeatureConfig
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.training.manifest import Samples, read_samples

SUFFIXES = frozenset({".flac", ".opus", ".wav"})


def noise_files(folder: Path) -> list[Path]:
    """The recordings below ``folder``, in order. Raises ConfigError where there are none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if not files:
        raise ConfigError(f"no .opus, .wav or .flac file of noise below {folder}")
    return files


@dataclass(frozen=True, slots=True)
class Noise:
    """``stretches`` are recordings at 16 kHz; ``snr_db`` is the ratio of the speech's mean
    power, pauses included, to the noise's; ``skipped`` names what could not be decoded."""

    stretches: tuple[Samples, ...]
    snr_db: float
    skipped: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path, snr_db: float) -> "Noise":
        """Read what lies below ``folder``; silent recordings are left out.

        Raises ConfigError where nothing is left.
        """
        stretches, skipped = [], []
        for path in noise_files(folder):
            try:
                samples = read_samples(path, FeatureConfig().sample_rate_hz)
            except AudioFormatError as error:
                skipped.append(str(error))
                continue
            if np.any(samples):
                stretches.append(samples)
        if not stretches:
            raise ConfigError(f"every recording of noise below {folder} is silent or damaged")
        return cls(tuple(stretches), snr_db, tuple(skipped))

    def mix(self, samples: Samples, number: int) -> Samples:
        """``samples`` ``(n,)`` with one of the stretches, repeated to its length, on top;
        ``number`` decides which and from where."""
        random = np.random.default_rng(number)
        stretch = self.stretches[int(random.integers(len(self.stretches)))]
        stretch = np.resize(np.roll(stretch, int(random.integers(len(stretch)))), len(samples))
        power = float(np.mean(stretch**2)) or 1.0
        gain = np.sqrt(float(np.mean(samples**2)) / power / 10 ** (self.snr_db / 10))
        return np.asarray(samples + np.float32(gain) * stretch, np.float32)
