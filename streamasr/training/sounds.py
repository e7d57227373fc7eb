"""Sounds without words, made from nothing: what a listener must stay silent on.

Every kind is a function of a random generator and a length, at 16 kHz in -1..1. They teach
the network what is no speech (``streamasr synthesize --sounds``, ``streamasr train --noise``)
and measure whether it knows (``streamasr silence``). Recordings of real rooms are better where
there are some; these are the sounds that nobody has to record.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamasr.config import FeatureConfig
from streamasr.errors import ConfigError

Samples = NDArray[np.float32]
SAMPLE_RATE_HZ = FeatureConfig().sample_rate_hz
CLIP_SECONDS = (4.0, 10.0)

_MAINS_HZ = 50

_SCALE = (0, 2, 4, 5, 7, 9, 11)
_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))


def zeros(_: np.random.Generator, count: int) -> Samples:
    """Digital silence."""
    return np.zeros(count, np.float32)


def white(random: np.random.Generator, count: int) -> Samples:
    """The same power at every frequency."""
    return _level(random.standard_normal(count), random)


def pink(random: np.random.Generator, count: int) -> Samples:
    """Power that falls by 3 dB an octave."""
    return _level(_coloured(random, count, -0.5), random)


def hum(random: np.random.Generator, count: int) -> Samples:
    """Mains of 50 Hz with harmonics of random strength."""
    seconds = np.arange(SAMPLE_RATE_HZ // _MAINS_HZ) / SAMPLE_RATE_HZ  # one period
    strengths = random.uniform(0, 1, 12) / np.arange(1, 13)
    phases = random.uniform(0, 2 * np.pi, 12)
    waves = np.sin(2 * np.pi * _MAINS_HZ * seconds[:, None] * np.arange(1, 13) + phases)
    return _level(np.resize(waves @ strengths, count), random)


def breathing(random: np.random.Generator, count: int) -> Samples:
    """Breaths of one to two seconds in and out: noise with slow hills in level and colour."""
    sound = np.zeros(count)
    first = 0
    while first < count:
        length = round(random.uniform(0.6, 1.6) * SAMPLE_RATE_HZ)
        hill = np.sin(np.linspace(0, np.pi, length)) ** random.uniform(1, 3)
        breath = _coloured(random, length, random.uniform(-0.9, -0.2)) * hill
        breath *= random.uniform(0.3, 1)
        part = sound[first : first + length]
        part += breath[: len(part)]
        first += length + round(random.uniform(0.1, 1.5) * SAMPLE_RATE_HZ)
    return _level(sound, random)


def music(random: np.random.Generator, count: int) -> Samples:
    """Chords, a tune and sometimes drums, in a random tempo, key and tone colour."""
    beat = round(60 / random.uniform(60, 160) * SAMPLE_RATE_HZ)
    root_hz = 55 * 2 ** (random.integers(12) / 12)
    has_drums = random.random() < 0.5
    chord_tone, tune_tone = random.uniform(0.8, 2.5, 2)
    sound = np.zeros(count + 8 * beat)
    for number, first in enumerate(range(0, count, beat)):
        if number % 4 == 0:
            chord = _CHORDS[random.integers(len(_CHORDS))]
            for step in chord:
                _play(sound, first, 4 * beat, 2 * root_hz * 2 ** (step / 12), chord_tone, random)
        if random.random() < 0.8:
            octave_hz = root_hz * 2 ** random.integers(2, 4)
            step = _SCALE[random.integers(len(_SCALE))]
            length = beat * int(random.integers(1, 3))
            _play(sound, first, length, octave_hz * 2 ** (step / 12), tune_tone, random)
        if has_drums:
            length = min(beat, SAMPLE_RATE_HZ // 5)
            decay = np.exp(-np.arange(length) / (0.03 * SAMPLE_RATE_HZ))
            sound[first : first + length] += _coloured(random, length, -0.2) * decay
    return _level(sound[:count], random)


KINDS: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    each.__name__: each for each in (zeros, white, pink, hum, breathing, music)
}
"""By name."""


def make(kind: str, seconds: tuple[float, float], seed: int, number: int) -> Samples:
    """One sound of a kind of ``KINDS``, as long as is drawn from the range ``seconds``.

    A function of its arguments alone. Another range gives another sound, so the clips to train
    on are not those that measure.
    """
    digest = hashlib.sha256(f"{seed} {kind} {seconds} {number}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest))
    return KINDS[kind](random, round(random.uniform(*seconds) * SAMPLE_RATE_HZ))


def write_clips(folder: Path, clips: int, seed: int) -> float:
    """Write ``clips`` FLAC files of each kind, ``CLIP_SECONDS`` long, as
    ``folder/KIND/NUMBER.flac``; the same arguments give the same sounds.

    Returns how many seconds they last together. Raises ConfigError where ``clips`` is less
    than one or the disk does not take them.
    """
    if clips < 1:
        raise ConfigError(f"--sounds must be at least 1, not {clips}")
    samples_written = 0
    for kind in KINDS:
        for number in range(clips):
            samples = make(kind, CLIP_SECONDS, seed, number)
            path = folder / kind / f"{number:05}.flac"
            draft = path.with_suffix(".part")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(draft, samples, SAMPLE_RATE_HZ, format="FLAC")
                draft.replace(path)
            except (OSError, soundfile.LibsndfileError) as error:
                raise ConfigError(f"{path} cannot be written: {error}") from None
            samples_written += len(samples)
    return samples_written / SAMPLE_RATE_HZ


def _play(
    sound: NDArray[np.float64],
    first: int,
    length: int,
    pitch_hz: float,
    tone: float,
    random: np.random.Generator,
) -> None:
    """Add a note: harmonics that fall off by the power ``tone``, a fast rise, a slow decay."""
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    harmonics = np.arange(1, min(16, int(0.45 * SAMPLE_RATE_HZ / pitch_hz)) + 1)
    vibrato = random.uniform(0, 0.004) * np.sin(2 * np.pi * random.uniform(4, 7) * seconds)
    phase = 2 * np.pi * pitch_hz * (seconds + np.cumsum(vibrato) / SAMPLE_RATE_HZ)
    strengths = np.exp(1j * random.uniform(0, 6, len(harmonics))) * harmonics**-tone
    turn = np.exp(1j * phase)
    # Harmonics are powers of the first one; Horner's rule needs no sine for each.
    waves = np.full(length, strengths[-1])
    for strength in strengths[-2::-1]:
        waves = waves * turn + strength
    envelope = np.minimum(1, seconds / 0.02) * np.exp(-seconds * random.uniform(0.5, 4))
    envelope *= np.minimum(1, (length - np.arange(length)) / (0.02 * SAMPLE_RATE_HZ))
    sound[first : first + length] += (waves * turn).imag * envelope


def _coloured(random: np.random.Generator, count: int, power: float) -> NDArray[np.float64]:
    """Noise whose amplitude goes with frequency to ``power``, of deviation 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** power
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / (noise.std() or 1))


def _level(sound: NDArray[np.float64], random: np.random.Generator) -> Samples:
    """``sound`` at a random root mean square between -60 and -12 dB, never clipped."""
    wanted = 10 ** (random.uniform(-60, -12) / 20)
    scaled = sound * wanted / (np.sqrt(np.mean(sound**2)) or 1)
    return np.clip(scaled, -1, 1).astype(np.float32)
