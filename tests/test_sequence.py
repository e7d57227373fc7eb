"""The sequence loss against its definition: every path written out."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from streamasr.training.sequence import Trigram, denominator, label_trigram, log_probability

CLASSES = [0, 1, 2, 1]
LABELS = len(CLASSES)
SPOKEN = [[1, 2, 3, 1], [2, 1, 1], [3, 2, 3]]


@pytest.fixture
def trigram() -> Trigram:
    return label_trigram(SPOKEN, CLASSES)


def collapse(path: tuple[int, ...]) -> list[int]:
    return [b for a, b in zip((0, *path), path, strict=False) if b not in (0, a)]


def all_paths(log_probs: Tensor, trigram: Trigram) -> Tensor:
    """The sum over every path, one by one."""
    terms = []
    for path in product(range(LABELS), repeat=len(log_probs)):
        before, previous, chance = 0, 0, 1.0
        for label in collapse(path):
            chance *= float(trigram.chances[previous, CLASSES[before], label])
            before, previous = previous, label
        if chance > 0:
            terms.append(log_probs[range(len(path)), path].sum() + np.log(chance))
    return torch.logsumexp(torch.stack(terms), 0)


def test_the_trigram_is_a_distribution_over_labels_that_were_said(trigram: Trigram) -> None:
    chances = trigram.chances
    torch.testing.assert_close(chances.sum(-1), torch.ones(LABELS, max(CLASSES) + 1))
    assert (chances[..., 0] == 0).all()
    assert chances[2, 1, 3] > chances[2, 1, 2], "1 2 3 was said, 1 2 2 was not"
    assert chances[1, 2, 1] > chances[3, 2, 3], "2 1 1 was said, 2 3 3 was not"


def test_denominator_and_gradient_are_those_of_all_paths(trigram: Trigram) -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 6, LABELS).log_softmax(-1).double().requires_grad_()
    steps = torch.tensor([6, 4, 1])
    expected = torch.stack(
        [all_paths(row[:count], trigram) for row, count in zip(log_probs, steps, strict=True)]
    )
    (slope,) = torch.autograd.grad(expected.sum(), log_probs)
    found = denominator(log_probs, steps, trigram)
    (found_slope,) = torch.autograd.grad(found.sum(), log_probs)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found_slope.double(), slope, atol=1e-5, rtol=0)


def test_a_long_recording_does_not_underflow(trigram: Trigram) -> None:
    log_probs = torch.randn(1, 2000, LABELS).mul(8).log_softmax(-1)
    total = denominator(log_probs, torch.tensor([2000]), trigram)
    assert torch.isfinite(total).all()
    assert total < 0


def test_a_sentence_is_as_probable_as_its_trigrams(trigram: Trigram) -> None:
    chances = trigram.chances
    expected = chances[0, 0, 3] * chances[3, 0, 2] * chances[2, CLASSES[3], 3]
    found = log_probability(torch.tensor([3, 2, 3]), trigram)
    assert found == pytest.approx(float(expected.log()), abs=1e-6)
