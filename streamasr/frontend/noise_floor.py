"""Is anything louder than the room? So that even the voice detector may rest.

The idea is that of minimum statistics (R. Martin, "Noise power spectral density estimation based
on optimal smoothing and minimum statistics", IEEE Transactions on Speech and Audio Processing
9(5), 2001): speech has gaps everywhere, so the least power that a band had lately is that of the
noise. Bands, because a hum or a fan hides little of a voice above it.
"""

from dataclasses import dataclass

import numpy as np

from streamasr.frontend.voice import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Samples

BAND_EDGES_BINS = (4, 16, 32, 64, 128, 257)
"""125, 500, 1000, 2000, 4000 and 8000 Hz, in bins of 31.25 Hz: below is hum."""
FAINTEST_DB = -80.0
"""A band is never taken to be quieter: less is the dither of a converter."""
RISE_DB_PER_SECOND = 2.0
LOUDER_DB = 6.0
_HANN = np.hanning(WINDOW_SAMPLES + 1)[:-1]
_TO_MEAN_SQUARE = 2 / (WINDOW_SAMPLES * float(np.sum(np.square(_HANN))))


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How loud each band of a room is when nothing happens, in dB of full scale; at first as
    quiet as can be, so that everything is louder than a room that nobody knows yet."""

    bands_db: tuple[float, ...] = (FAINTEST_DB,) * (len(BAND_EDGES_BINS) - 1)

    def hear(self, samples: Samples) -> "tuple[NoiseFloor, bool]":
        """The floor after ``(n * WINDOW_SAMPLES,)`` samples in -1..1 at 16 kHz, and whether a
        window of them is louder than it in any band."""
        windows = samples.reshape(-1, WINDOW_SAMPLES) * _HANN
        power = np.square(np.abs(np.fft.rfft(windows, axis=1)))
        bands = np.add.reduceat(power, BAND_EDGES_BINS[:-1], axis=1).max(axis=0)
        loudest_db = 10 * np.log10(np.maximum(bands * _TO_MEAN_SQUARE, 10 ** (FAINTEST_DB / 10)))
        rise_db = RISE_DB_PER_SECOND * len(samples) / SAMPLE_RATE_HZ
        risen_db = np.array(self.bands_db) + rise_db
        # Where a noise has ended the room is unknown again: somebody may speak at once.
        has_ended = loudest_db < risen_db - LOUDER_DB
        lowest_db = np.where(has_ended, loudest_db - 2 * LOUDER_DB, loudest_db)
        floor_db = np.maximum(np.minimum(lowest_db, risen_db), FAINTEST_DB)
        is_louder = bool(np.any(loudest_db > floor_db + LOUDER_DB))
        return NoiseFloor(tuple(floor_db.tolist())), is_louder
