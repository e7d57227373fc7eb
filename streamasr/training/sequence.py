"""The denominator of a sequence loss: CTC-CRF over a phone trigram.

CTC scores a label sequence against all paths alike, so the network must learn the
language itself. A conditional random field scores it against all label sequences that a
language model of labels would expect (Xiang and Ou, "CRF-based single-stage acoustic
modeling with CTC topology", 2019)::

    log P(labels | audio) = log sum over paths of `labels`  [p(path | audio)] P_LM(labels)
                          - log sum over all paths          [p(path | audio) P_LM(labels of path)]

The first sum is CTC's, times a constant; the second is the forward algorithm over states
(last label, class of the label before, whether the last step was blank), computed here in the
probability domain with the scaling of Rabiner ("A tutorial on hidden Markov models", 1989,
V.A). Classes keep the states few: a phone at a word's end and the same phone elsewhere are
one class, so the trigram knows whether the last label ended a word, and which phone came
before it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Trigram:
    """``chances`` ``(previous label, class before, next label)``: P(next | the two before).

    ``classes`` ``(labels,)`` gives each label's class. Label 0 is the blank, and alone in
    class 0; in a history it stands for the beginning.
    """

    chances: Tensor
    classes: Tensor

    def to(self, device: torch.device) -> "Trigram":
        """The same trigram with its tensors on ``device``."""
        return Trigram(self.chances.to(device), self.classes.to(device))


def label_trigram(sequences: Iterable[Sequence[int]], classes: Sequence[int]) -> Trigram:
    """Counted from label ``sequences``, with Witten-Bell interpolation down to a uniform
    distribution; ``classes`` as in :class:`Trigram`."""
    labels = len(classes)
    counts = np.zeros((labels, max(classes) + 1, labels))
    triples: Counter[tuple[int, int, int]] = Counter()
    for sequence in sequences:
        padded = (0, 0, *sequence)
        triples.update(zip(padded[1:], padded, sequence, strict=False))
    for (previous, before, following), count in triples.items():
        counts[previous, classes[before], following] += count
    uniform = np.full(labels, 1 / (labels - 1))
    uniform[0] = 0
    lower = _interpolate(counts.sum((0, 1)), uniform)
    bigram = _interpolate(counts.sum(1), lower)
    chances = _interpolate(counts, bigram[:, None])
    return Trigram(torch.from_numpy(chances).float(), torch.tensor(classes))


def _interpolate(counts: NDArray[np.float64], lower: NDArray[np.float64]) -> NDArray[np.float64]:
    kinds = np.maximum((counts > 0).sum(-1, keepdims=True), 1)
    mixed: NDArray[np.float64] = (counts + kinds * lower) / (counts.sum(-1, keepdims=True) + kinds)
    return mixed


def log_probability(sequence: Tensor, trigram: Trigram) -> float:
    """Natural log of the trigram's probability of ``sequence`` ``(n,)``."""
    padded = torch.cat([sequence.new_zeros(2), sequence])
    before = trigram.classes[padded[:-2]]
    return float(trigram.chances[padded[1:-1], before, sequence].log().sum())


def denominator(log_probs: Tensor, steps: Tensor, trigram: Trigram) -> Tensor:
    """Natural log of the second sum above, ``(B,)``, differentiable in ``log_probs``.

    ``log_probs`` ``(B, T, labels)`` with the blank first; ``steps`` ``(B,)``: how many of
    the T are the utterance's.
    """
    total: Tensor = _Denominator.apply(log_probs, steps, trigram.chances, trigram.classes)  # type: ignore[no-untyped-call]
    return total


class _Denominator(torch.autograd.Function):
    """Both passes at once: the gradient is the posterior of each label at each step.

    ``spoken`` and ``blank`` are ``(last label, B, class before)``: the probability of all
    paths with that history whose last step was that label, or blank. After a blank the last
    label may come again; held without one it is the same label.
    """

    @staticmethod
    def forward(ctx, log_probs, steps, chances, classes):  # type: ignore[no-untyped-def]
        batch, length, labels = log_probs.shape
        emissions = log_probs.detach().float().exp().permute(1, 2, 0).contiguous()  # (T, labels, B)
        # Past its end an utterance emits blank for certain, which changes nothing.
        over = torch.arange(length, device=steps.device)[:, None] >= steps[None]
        emissions.masked_fill_(over[:, None], 0.0)
        emissions[:, 0].masked_fill_(over, 1.0)
        again = torch.diagonal(chances, dim1=0, dim2=2).T[:, None]  # (labels, 1, classes)
        spoken = emissions.new_zeros(length + 1, labels, batch, chances.shape[1])
        blank = torch.zeros_like(spoken)
        blank[0, 0, :, 0] = 1.0
        scales = emissions.new_ones(length, batch)
        by_class = emissions.new_zeros(chances.shape[1], batch, labels)
        for t in range(length):
            whole = spoken[t] + blank[t]
            begun = torch.bmm(whole, chances)  # (last label, B, next label)
            torch.diagonal(begun, dim1=0, dim2=2).copy_((blank[t] * again).sum(2).T)
            begun = by_class.zero_().index_add_(0, classes, begun).permute(2, 1, 0)
            torch.add(spoken[t], begun, out=spoken[t + 1]).mul_(emissions[t, :, :, None])
            torch.mul(whole, emissions[t, 0, :, None], out=blank[t + 1])
            scale = (spoken[t + 1] + blank[t + 1]).sum((0, 2))
            scales[t] = scale
            spoken[t + 1] /= scale[:, None]
            blank[t + 1] /= scale[:, None]
        posteriors = torch.zeros_like(emissions)
        after_spoken = torch.ones_like(spoken[0])
        after_blank = torch.ones_like(spoken[0])
        backward = chances.transpose(1, 2)
        for t in range(length - 1, -1, -1):
            posteriors[t] = (spoken[t + 1] * after_spoken).sum(2)
            posteriors[t, 0] = (blank[t + 1] * after_blank).sum((0, 2))
            after_spoken *= emissions[t, :, :, None] / scales[t, :, None]
            after_blank *= emissions[t, 0, :, None] / scales[t, :, None]
            reached = after_spoken.permute(2, 1, 0).index_select(0, classes)
            after_blank += torch.bmm(reached, backward)
            after_spoken += after_blank
            repeated = torch.diagonal(reached, dim1=0, dim2=2).T[:, :, None]  # (labels, B, 1)
            after_spoken -= repeated * again
        posteriors.masked_fill_(over[:, None], 0.0)
        ctx.save_for_backward(posteriors.permute(2, 0, 1))
        return scales.log().sum(0)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (posteriors,) = ctx.saved_tensors
        return posteriors * gradient[:, None, None], None, None, None
