"""Samples to natural-log mel energies, without centring or padding.

Frame *t* is computed from samples ``t * hop_samples`` up to
``t * hop_samples + fft_samples``, so a frame depends on nothing that comes later and
the frames of a stream are those of the whole recording. Equal to torchaudio's
``MelSpectrogram(center=False, mel_scale="slaney", norm=None)`` followed by a floored
natural log (tests/test_logmel.py compares them).

The mel scale is that of Slaney's Auditory Toolbox (1998): linear below 1 kHz,
logarithmic above. At 31.25 Hz a bin its 80 triangles are all non-empty, which
the HTK scale's lowest ones are not.
"""

import numpy as np
from numpy.typing import NDArray

from streamasr.config import FeatureConfig

Samples = NDArray[np.float32]
Frames = NDArray[np.float32]


class LogMel:
    """The transform for one ``FeatureConfig``; immutable, shared by every stream."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        hann = 0.5 - 0.5 * np.cos(
            2 * np.pi * np.arange(config.window_samples) / config.window_samples
        )
        before = (config.fft_samples - config.window_samples) // 2
        self._window = np.zeros(config.fft_samples)
        self._window[before : before + config.window_samples] = hann
        self._filters = mel_filters(config)

    def frames_in(self, samples: int) -> int:
        """How many whole frames ``samples`` samples give."""
        return max(0, 1 + (samples - self.config.fft_samples) // self.config.hop_samples)

    def samples_for(self, frames: int) -> int:
        """How many samples ``frames`` frames span."""
        return (frames - 1) * self.config.hop_samples + self.config.fft_samples

    def __call__(self, samples: Samples) -> Frames:
        """``(n,)`` samples in -1..1 to ``(frames_in(n), mels)`` natural-log energies."""
        count = self.frames_in(len(samples))
        if count == 0:
            return np.zeros((0, self.config.mels), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.config.fft_samples)
        windows = windows[:: self.config.hop_samples][:count]
        spectrum = np.fft.rfft(windows * self._window, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        energies = np.maximum(power @ self._filters, self.config.floor)
        frames: Frames = np.log(energies).astype(np.float32)
        return frames


def silence_frame(config: FeatureConfig) -> Frames:
    """``(mels,)``: the frame that digital silence gives."""
    return np.full(config.mels, np.log(config.floor), np.float32)


def mel_filters(config: FeatureConfig) -> NDArray[np.float64]:
    """``(fft_samples // 2 + 1, mels)`` triangular filters of height 1 on the Slaney scale."""
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, config.fft_samples // 2 + 1)
    low, high = _slaney_mel(np.array([config.low_hz, config.high_hz]))
    corners_hz = _slaney_hz(np.linspace(low, high, config.mels + 2))
    rising = (bins_hz[:, None] - corners_hz[:-2]) / np.diff(corners_hz)[:-1]
    falling = (corners_hz[2:] - bins_hz[:, None]) / np.diff(corners_hz)[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


_LINEAR_HZ_PER_MEL = 200.0 / 3
_LOG_STARTS_HZ = 1000.0
_LOG_STARTS_MEL = _LOG_STARTS_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _slaney_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _LOG_STARTS_MEL + np.log(np.maximum(hz, _LOG_STARTS_HZ) / _LOG_STARTS_HZ) / _LOG_STEP
    return np.where(hz < _LOG_STARTS_HZ, hz / _LINEAR_HZ_PER_MEL, above)


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _LOG_STARTS_HZ * np.exp(
        _LOG_STEP * (np.maximum(mel, _LOG_STARTS_MEL) - _LOG_STARTS_MEL)
    )
    return np.where(mel < _LOG_STARTS_MEL, mel * _LINEAR_HZ_PER_MEL, above)
