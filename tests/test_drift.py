"""The estimate of a sound card's clock."""

from collections.abc import Iterator

import numpy as np
import pytest

from streamasr.capture.drift import ClockDrift

RATE_HZ = 48_000
BLOCK_FRAMES = 3_840


def arrivals(drift_ppm: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """When the blocks of a card come: up to 10 ms late, one in a hundred up to half a second."""
    noise = np.random.default_rng(seed)
    block_seconds = BLOCK_FRAMES / RATE_HZ / (1 + drift_ppm * 1e-6)
    for number in range(1, int(seconds / block_seconds)):
        late_seconds = noise.exponential(0.003) + 0.002
        if noise.random() < 0.01:
            late_seconds += noise.uniform(0, 0.5)
        yield 1_000 + number * block_seconds + late_seconds


def heard(drift_ppm: float, seconds: float) -> ClockDrift:
    drift = ClockDrift(RATE_HZ)
    for at_seconds in arrivals(drift_ppm, seconds):
        drift.heard(BLOCK_FRAMES, at_seconds)
    return drift


@pytest.mark.parametrize("drift_ppm", [-150.0, 0.0, 40.0])
def test_the_drift_is_found_among_late_blocks(drift_ppm: float) -> None:
    assert heard(drift_ppm, 240).ppm == pytest.approx(drift_ppm, abs=3)
    assert heard(drift_ppm, 1_800).ppm == pytest.approx(drift_ppm, abs=0.3)


def test_nothing_is_told_in_the_first_three_minutes() -> None:
    assert heard(40.0, 180).ppm is None


def test_lost_sound_is_not_taken_for_drift() -> None:
    drift = heard(40.0, 600)
    at_seconds = 0.0
    for number, at_seconds in enumerate(arrivals(40.0, 1_200)):
        if number > 7_600 and not 7_700 < number < 7_710:  # 0.72 s of sound is missing
            drift.heard(BLOCK_FRAMES, at_seconds)
    assert drift.ppm == pytest.approx(40.0, abs=3)


def test_only_the_last_half_hour_counts() -> None:
    drift = heard(40.0, 2_000)
    *_, changed_seconds = arrivals(40.0, 2_000)
    for at_seconds in arrivals(-20.0, 2_000):
        drift.heard(BLOCK_FRAMES, changed_seconds - 1_000 + at_seconds)
    assert drift.ppm == pytest.approx(-20.0, abs=1)
