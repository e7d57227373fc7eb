"""Changes to log-mel frames that make the network hear past the recording conditions.

Everything works on natural-log mel frames ``(frames, mels)``, so that the features can
be computed once: gain is an addition, noise adds in the power domain (exact on average,
since speech and noise are uncorrelated).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamasr.config import FeatureConfig
from streamasr.frontend.logmel import mel_filters

Frames = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How much of each change; probabilities are per utterance, but that of long silence per
    batch: one long utterance makes the whole batch as long."""

    gain_db: tuple[float, float] = (-12.0, 6.0)
    equaliser_db: float = 2.5
    noise_probability: float = 0.6
    noise_snr_db: tuple[float, float] = (0.0, 25.0)
    telephone_probability: float = 0.2
    pad_frames: tuple[int, int] = (60, 40)
    long_pad_probability: float = 0.2
    long_pad_frames: tuple[int, int] = (500, 500)
    digital_silence_probability: float = 0.3
    tempo: tuple[float, float] = (0.9, 1.1)
    vocal_tract_warp: float = 0.1
    frequency_masks: int = 2
    frequency_mask_mels: int = 15
    time_mask_every_frames: int = 250
    time_mask_frames: int = 28


_LOG_PER_DB = np.log(10) / 10
_TELEPHONE_HZ = (3300.0, 4000.0)
"""A telephone leaves everything above some frequency in this range empty."""


def augment(
    frames: Frames,
    silence: Frames,
    mean: Frames,
    noise: Frames | None,
    config: AugmentConfig,
    random: np.random.Generator,
    *,
    long_pad: bool,
    masks: bool,
) -> Frames:
    """One utterance, changed at random. ``silence`` and ``mean`` are ``(mels,)``;
    ``noise`` is a long stretch of noise frames or None; ``long_pad`` lets the silence around
    it be long, or the network would hear words in what it has never heard; ``masks`` adds
    SpecAugment."""
    frames = _hurry(frames, random.uniform(*config.tempo))
    frames = _warp(frames, random.uniform(-1, 1) * config.vocal_tract_warp)
    frames = _equalise(frames, random.normal(0, config.equaliser_db, _EQUALISER_CURVES))
    most = config.long_pad_frames if long_pad else config.pad_frames
    frames = _pad(frames, silence, most, config.digital_silence_probability, random)
    if noise is not None and random.random() < config.noise_probability:
        frames = _add_noise(frames, noise, random.uniform(*config.noise_snr_db), random)
    frames = np.maximum(frames + random.uniform(*config.gain_db) * _LOG_PER_DB, silence)
    if random.random() < config.telephone_probability:
        above = _band_centres_hz(frames.shape[1]) > random.uniform(*_TELEPHONE_HZ)
        frames[:, above] = silence[above]
    if masks:
        _mask(frames, mean, config, random)
    return frames


def _hurry(frames: Frames, tempo: float) -> Frames:
    """The same speech in ``1 / tempo`` of the time, without a change of pitch: frames in
    between are interpolated."""
    return _at(frames, np.arange(0, len(frames) - 0.5, tempo))


def _at(rows: Frames, places: NDArray[np.float64]) -> Frames:
    """What lies at fractional ``places`` among ``rows`` ``(n, m)``: linear in between, the last
    row beyond it."""
    before = places.astype(int)
    after = np.minimum(before + 1, len(rows) - 1)
    part = (places - before).astype(np.float32)[:, None]
    between: Frames = rows[before] * (1 - part) + rows[after] * part
    return between


@cache
def _band_centres_hz(mels: int) -> NDArray[np.float64]:
    """``(mels,)``: the mean frequency of each band."""
    config = FeatureConfig(mels=mels)
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, config.fft_samples // 2 + 1)
    filters = mel_filters(config)
    centres: NDArray[np.float64] = (bins_hz @ filters) / filters.sum(0)
    return centres


def _warp(frames: Frames, warp: float) -> Frames:
    """Formants moved up by the part ``warp``, as by a shorter vocal tract (Jaitly and Hinton,
    "Vocal tract length perturbation", 2013)."""
    centres_hz = _band_centres_hz(frames.shape[1])
    source = np.interp(centres_hz / (1 + warp), centres_hz, np.arange(len(centres_hz)))
    return _at(frames.T, source).T


_EQUALISER_CURVES = 4


def _equalise(frames: Frames, gains_db: NDArray[np.float64]) -> Frames:
    """Another microphone: gains that vary smoothly over the bands, a sum of cosines of 1/2,
    2/2, … periods, each as high as its ``gains_db``."""
    bands = (np.arange(frames.shape[1]) + 0.5) / frames.shape[1]
    curves = np.cos(np.pi * bands * np.arange(1, len(gains_db) + 1)[:, None])
    equalised: Frames = frames + (gains_db @ curves * _LOG_PER_DB).astype(np.float32)
    return equalised


def _pad(
    frames: Frames,
    silence: Frames,
    most: tuple[int, int],
    digital_silence_probability: float,
    random: np.random.Generator,
) -> Frames:
    """Silence before and after, up to ``most`` frames: the recording's own quietest, or
    digital silence."""
    before, after = (int(random.integers(0, 1 + count)) for count in most)
    if random.random() < digital_silence_probability:
        quiet = silence[None]
    else:
        quiet = frames[np.argsort(frames.mean(axis=1))[: max(1, min(10, len(frames) // 10))]]
    rows = random.integers(0, len(quiet), before + after)
    return np.concatenate([quiet[rows[:before]], frames, quiet[rows[before:]]])


def _add_noise(frames: Frames, noise: Frames, snr_db: float, random: np.random.Generator) -> Frames:
    first = int(random.integers(0, max(1, len(noise) - len(frames))))
    stretch = np.resize(noise[first : first + len(frames)], frames.shape)
    level = np.log(np.exp(frames).mean() / np.exp(stretch).mean()) - snr_db * _LOG_PER_DB
    return np.logaddexp(frames, stretch + np.float32(level), dtype=np.float32)


def _mask(frames: Frames, mean: Frames, config: AugmentConfig, random: np.random.Generator) -> None:
    """SpecAugment without time warping (Park et al., 2019), the number of time masks growing
    with the utterance (Park et al., "SpecAugment on large scale datasets", 2020)."""
    count, mels = frames.shape
    for _ in range(config.frequency_masks):
        width = int(random.integers(0, config.frequency_mask_mels + 1))
        low = int(random.integers(0, mels - width + 1))
        frames[:, low : low + width] = mean[low : low + width]
    for _ in range(count // config.time_mask_every_frames + 1):
        width = int(random.integers(0, min(config.time_mask_frames, count // 8) + 1))
        first = int(random.integers(0, count - width + 1))
        frames[first : first + width] = mean
