"""Whether the confidences of words say how often they are right.

Everything takes ``confidences`` ``(n,)`` in 0..1 and ``right`` ``(n,)`` booleans, a word each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr.training.plots import new_figure, save_figure

BINS = 10
SMALLEST = 1e-4  # confidences are rounded to as much; a logarithm needs more than 0

Confidences = NDArray[np.float64]
Right = NDArray[np.bool_]


class Bin(NamedTuple):
    """The ``words`` whose confidence is in ``low`` to ``high``: their mean ``confidence`` and
    the share of them that is ``right``; both nan where there are none."""

    low: float
    high: float
    words: int
    confidence: float
    right: float


def reliability(confidences: Confidences, right: Right) -> tuple[Bin, ...]:
    """``BINS`` bins of equal width; a confidence on an edge is in the upper one, 1 in the last."""
    places = np.minimum((confidences * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        words = int(inside.sum())
        means = (confidences[inside].mean(), right[inside].mean()) if words else (np.nan, np.nan)
        bins.append(Bin(place / BINS, (place + 1) / BINS, words, *map(float, means)))
    return tuple(bins)


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error (Naeini et al., "Obtaining well calibrated probabilities using
    Bayesian binning", 2015): how far a word's confidence is from how often such words are
    right. None without words."""
    words = sum(each.words for each in bins)
    if words == 0:
        return None
    return sum(each.words * abs(each.confidence - each.right) for each in bins if each.words) / (
        words
    )


def area_under_roc(confidences: Confidences, right: Right) -> float | None:
    """The chance that a right word has a higher confidence than a wrong one, a tie counted as
    half: 0.5 says nothing, 1 tells all apart. None where there are not both."""
    good, bad = confidences[right], np.sort(confidences[~right])
    if len(good) == 0 or len(bad) == 0:
        return None
    below = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
    return float(below.mean() / 2 / len(bad))


def normalised_cross_entropy(confidences: Confidences, right: Right) -> float | None:
    """How much of the doubt about a word its confidence takes away (Siu, Gish and Richardson,
    "Improved estimation, evaluation and applications of confidence measures", 1997): 1 is all,
    0 no more than the share of right words does, less than 0 misleads. None where all words are
    right or all are wrong."""
    if right.all() or not right.any():
        return None
    share = right.mean()
    doubt = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    chances = np.clip(np.where(right, confidences, 1 - confidences), SMALLEST, 1)
    return float(1 + np.log(chances).mean() / doubt)


def draw_reliability(bins: Sequence[Bin], picture: Path) -> None:
    """Write a PNG file: the share of right words and the number of words of every bin, over the
    diagonal of perfect confidences. Raises ConfigError where that is not possible."""
    filled = [each for each in bins if each.words]
    edges = [each.low for each in bins]
    figure = new_figure(6, 6.5)
    shares, counts = figure.subplots(2, height_ratios=(3, 1), sharex=True)
    shares.plot((0, 1), (0, 1), color="grey", linestyle="dashed", label="perfect")
    shares.bar(
        [each.low for each in filled],
        [each.right for each in filled],
        width=1 / len(bins),
        align="edge",
        alpha=0.4,
        edgecolor="white",
        label="right words",
    )
    shares.plot(
        [each.confidence for each in filled],
        [each.right for each in filled],
        marker="o",
        label="at their mean confidence",
    )
    shares.set_xlim(0, 1)
    shares.set_ylim(0, 1)
    shares.set_ylabel("share of right words")
    shares.grid(alpha=0.3)
    shares.legend(fontsize="small")
    bars = counts.bar(
        edges, [each.words for each in bins], width=1 / len(bins), align="edge", edgecolor="white"
    )
    counts.bar_label(bars, fontsize="small")
    counts.margins(y=0.25)
    counts.set_ylabel("words")
    counts.set_xlabel("confidence")
    save_figure(figure, picture)
