"""Measures of confidences against their definitions."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from streamasr.training.confidence import (
    area_under_roc,
    calibration_error,
    draw_reliability,
    normalised_cross_entropy,
    reliability,
)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(0)
    confidences = random.integers(0, 8, 60) / 8  # with ties
    right = random.random(60) < confidences
    pairs = list(product(confidences[right], confidences[~right]))
    expected = np.mean([(good > bad) + 0.5 * (good == bad) for good, bad in pairs])
    assert area_under_roc(confidences, right) == pytest.approx(expected)
    assert area_under_roc(1 - confidences, right) == pytest.approx(1 - expected)
    assert 0.6 < expected < 1


def test_the_area_of_none_all_and_nothing() -> None:
    right = np.array([False, False, True])
    assert area_under_roc(np.array([0.1, 0.2, 0.3]), right) == 1
    assert area_under_roc(np.array([0.5, 0.5, 0.5]), right) == 0.5
    assert area_under_roc(np.array([0.5]), np.array([True])) is None
    assert area_under_roc(np.array([0.5]), np.array([False])) is None


def test_bins_hold_every_word_once() -> None:
    bins = reliability(
        np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([True] + [False] * 3 + [True])
    )
    assert [each.words for each in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[0].confidence, bins[0].right) == (pytest.approx(0.025), 0.5)
    assert (bins[9].confidence, bins[9].right) == (pytest.approx(0.975), 0.5)
    assert np.isnan(bins[5].right)


def test_the_calibration_error_weighs_bins_by_their_words() -> None:
    confidences = np.array([0.9, 0.9, 0.9, 0.25])
    assert calibration_error(
        reliability(confidences, np.array([True, True, False, False]))
    ) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.25)
    assert calibration_error(reliability(np.zeros(0), np.zeros(0, np.bool_))) is None


def test_confidences_that_are_chances_have_no_calibration_error() -> None:
    random = np.random.default_rng(1)
    chances = random.random(100_000)
    right = random.random(100_000) < chances
    error = calibration_error(reliability(chances, right))
    assert error is not None
    assert error < 0.01
    worse = calibration_error(reliability(chances**2, right))
    assert worse is not None
    assert worse > 0.1


def test_cross_entropy_is_one_for_certainty_and_zero_for_the_share() -> None:
    right = np.array([True, True, True, False])
    assert normalised_cross_entropy(np.where(right, 1.0, 0.0), right) == pytest.approx(1)
    assert normalised_cross_entropy(np.full(4, 0.75), right) == pytest.approx(0)
    misleading = normalised_cross_entropy(np.where(right, 0.0, 1.0), right)
    assert misleading is not None
    assert -20 < misleading < -10
    assert normalised_cross_entropy(np.array([0.5]), np.array([True])) is None


def test_the_picture_is_a_png_with_and_without_words(tmp_path: Path) -> None:
    picture = tmp_path / "reliability.png"
    for confidences in (np.array([0.2, 0.9]), np.zeros(0)):
        draw_reliability(reliability(confidences, confidences > 0.5), picture)
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        picture.unlink()
