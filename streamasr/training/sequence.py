"""The denominator of a sequence loss: CTC-CRF over a phone trigram.

CTC scores a label sequence against all paths alike, so the network must learn the
language itself. A conditional random field scores it against all label sequences that a
language model of labels would expect (Xiang and Ou, "CRF-based single-stage acoustic
modeling with CTC topology", 2019)::

    log P(labels | audio) = log sum over paths of `labels`  [p(path | audio)] P_LM(labels)
                          - log sum over all paths          [p(path | audio) P_LM(labels of path)]

The first sum is CTC's, times a constant; the second is the forward algorithm over states
(last two labels, whether the last step was blank), computed here in the probability
domain with the scaling of Rabiner ("A tutorial on hidden Markov models", 1989, V.A).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def label_trigram(sequences: Iterable[Sequence[int]], labels: int) -> Tensor:
    """``P(next | previous, one before)`` as ``(previous, one before, next)``, ``labels`` each.

    Label 0 is the blank; in a history it stands for the beginning. Witten-Bell
    interpolation down to a uniform distribution. A label never follows itself: merging
    repeats is what CTC does, and pronunciations hardly have any.
    """
    counts = np.zeros((labels, labels, labels))
    triples: Counter[tuple[int, int, int]] = Counter()
    for sequence in sequences:
        padded = (0, 0, *sequence)
        triples.update(zip(padded[1:], padded, sequence, strict=False))
    for (previous, before, following), count in triples.items():
        counts[previous, before, following] = count
    uniform = np.full(labels, 1 / (labels - 1))
    uniform[0] = 0
    lower = _interpolate(counts.sum((0, 1)), uniform)
    bigram = _interpolate(counts.sum(1), lower)
    trigram = _interpolate(counts, bigram[:, None])
    trigram[np.arange(labels), :, np.arange(labels)] = 0
    return torch.from_numpy(trigram / trigram.sum(-1, keepdims=True)).float()


def _interpolate(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    kinds = np.maximum((counts > 0).sum(-1, keepdims=True), 1)
    mixed: np.ndarray = (counts + kinds * lower) / (counts.sum(-1, keepdims=True) + kinds)  # type: ignore[type-arg]
    return mixed


def log_probability(sequence: Tensor, trigram: Tensor) -> float:
    """Natural log of the trigram's probability of ``sequence`` ``(n,)``; label pairs that it
    rules out count as 1e-10."""
    before = torch.cat([sequence.new_zeros(2), sequence])
    chances = trigram[before[1:-1], before[:-2], sequence]
    return float(chances.clamp(min=1e-10).log().sum())


def denominator(log_probs: Tensor, steps: Tensor, trigram: Tensor) -> Tensor:
    """Natural log of the second sum above, ``(B,)``, differentiable in ``log_probs``.

    ``log_probs`` ``(B, T, labels)`` with the blank first; ``steps`` ``(B,)``: how many of
    the T are the utterance's; ``trigram`` from :func:`label_trigram`.
    """
    total: Tensor = _Denominator.apply(log_probs, steps, trigram)  # type: ignore[no-untyped-call]
    return total


class _Denominator(torch.autograd.Function):
    """Both passes at once: the gradient is the posterior of each label at each step.

    ``spoken`` and ``blank`` are ``(last label, B, label before)``: the probability of all
    paths with that history whose last step was that label, or blank.
    """

    @staticmethod
    def forward(ctx, log_probs, steps, trigram):  # type: ignore[no-untyped-def]
        batch, length, labels = log_probs.shape
        emissions = log_probs.detach().float().exp().permute(1, 2, 0).contiguous()  # (T, labels, B)
        # Past its end an utterance emits blank for certain, which changes nothing.
        over = torch.arange(length)[:, None] >= steps[None]
        emissions.masked_fill_(over[:, None], 0.0)
        emissions[:, 0].masked_fill_(over, 1.0)
        spoken = emissions.new_zeros(length + 1, labels, batch, labels)
        blank = torch.zeros_like(spoken)
        blank[0, 0, :, 0] = 1.0
        scales = emissions.new_ones(length, batch)
        for t in range(length):
            whole = spoken[t] + blank[t]
            begun = torch.bmm(whole, trigram).permute(2, 1, 0)
            torch.add(spoken[t], begun, out=spoken[t + 1]).mul_(emissions[t, :, :, None])
            torch.mul(whole, emissions[t, 0, :, None], out=blank[t + 1])
            scale = (spoken[t + 1] + blank[t + 1]).sum((0, 2))
            scales[t] = scale
            spoken[t + 1] /= scale[:, None]
            blank[t + 1] /= scale[:, None]
        posteriors = torch.zeros_like(emissions)
        after_spoken = emissions.new_ones(labels, batch, labels)
        after_blank = emissions.new_ones(labels, batch, labels)
        backward = trigram.transpose(1, 2)
        for t in range(length - 1, -1, -1):
            posteriors[t] = (spoken[t + 1] * after_spoken).sum(2)
            posteriors[t, 0] = (blank[t + 1] * after_blank).sum((0, 2))
            after_spoken *= emissions[t, :, :, None] / scales[t, :, None]
            after_blank *= emissions[t, 0, :, None] / scales[t, :, None]
            after_blank += torch.bmm(after_spoken.permute(2, 1, 0), backward)
            after_spoken += after_blank
        posteriors.masked_fill_(over[:, None], 0.0)
        ctx.save_for_backward(posteriors.permute(2, 0, 1))
        return scales.log().sum(0)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (posteriors,) = ctx.saved_tensors
        return posteriors * gradient[:, None, None], None, None
