"""How loud sound is, relative to full scale."""

import math

import numpy as np

from streamasr.frontend.resample import Samples

METER_CELLS = 30
METER_FLOOR_DB = -60.0
FLOOR_DB = -100.0


def meter(samples: Samples) -> str:
    """A bar as long as the loudest of ``(n,)`` samples, from METER_FLOOR_DB to full scale."""
    level_db = max(METER_FLOOR_DB, peak_db(samples))
    cells = round(METER_CELLS * (1 - level_db / METER_FLOOR_DB))
    return f"{'█' * cells:░<{METER_CELLS}} {level_db:4.0f} dB"


def peak_db(samples: Samples) -> float:
    """The loudest of ``(n,)`` samples in -1..1, relative to full scale; silence is -100 dB."""
    return _db(float(np.abs(samples).max(initial=0.0)))


def rms_db(samples: Samples) -> float:
    """The mean power of ``(n,)`` samples, as the level that would have it all the time."""
    return _db(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0)


def _db(level: float) -> float:
    return max(FLOOR_DB, 20 * math.log10(max(level, 1e-9)))
