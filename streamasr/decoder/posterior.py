"""How sure the beam is of a word: the share of it that hears the same word at that time.

Just after a word its rivals are still in the beam; seconds later all hypotheses agree on
it, right or wrong, because the others were pruned for what followed. In between its share
says most: right and wrong words of dev are told apart best at about ten steps after the
word's end (area under the ROC curve 0.79 after 2 steps, 0.83 after 10, 0.70 after 25; with
the share at the end of the utterance 0.52). So every fourth step the words that ended at
least ``SETTLE_STEPS`` ago are settled: they keep the share that they have then.

The same shares say what can be committed: what all but ``1 - commit`` of the beam begins
with, up to the settled words, will not change any more, so the rest of the beam is dropped.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from streamasr.decoder.history import Floats, Trace
from streamasr.decoder.hypothesis import HeardWord

SETTLE_STEPS = 10
SETTLE_EVERY_STEPS = 4
"""A quarter of the steps is enough, and a chunk of the network has four."""


def shares_of(scores: Floats) -> Floats:
    """The share of each of ``scores`` (natural logs) in their sum."""
    chances: Floats = np.exp(scores - scores.max())
    chances /= chances.sum()
    return chances


class Shares:
    """The shares of a beam's words that are not settled yet."""

    def __init__(self, traces: Iterable[Trace | None], scores: Floats) -> None:
        """``traces`` and ``scores`` ``(hypotheses,)`` (natural logs) belong together."""
        chances = shares_of(scores)
        leaves: defaultdict[Trace, float] = defaultdict(float)
        for trace, chance in zip(traces, chances.tolist(), strict=True):
            if trace is not None:
                leaves[trace] += chance
        of_trace: defaultdict[Trace, float] = defaultdict(float)
        for leaf, chance in leaves.items():
            open_trace: Trace | None = leaf
            while open_trace is not None and not open_trace.word.is_settled:
                of_trace[open_trace] += chance
                open_trace = open_trace.before
        self._of_word: defaultdict[str, list[tuple[int, int, float]]] = defaultdict(list)
        for trace, chance in of_trace.items():
            word = trace.word
            self._of_word[word.word].append((word.first_step, word.end_step, chance))

    def of(self, word: HeardWord) -> float:
        """The share of the beam that hears ``word`` at an overlapping time, in 0..1."""
        share = sum(
            chance
            for first_step, end_step, chance in self._of_word.get(word.word, ())
            if first_step < word.end_step and word.first_step < end_step
        )
        return round(min(1.0, share), 4)


def settle(traces: Iterable[Trace | None], shares: Shares, step: int) -> list[Trace | None]:
    """``traces`` with their words that are over at ``step`` settled."""
    known: dict[Trace, Trace] = {}

    def settled(trace: Trace | None) -> Trace | None:
        if trace is None or trace.word.is_settled:
            return trace
        if trace not in known:
            before, word = settled(trace.before), trace.word
            if step - word.end_step >= SETTLE_STEPS:
                word = replace(word, posterior=shares.of(word), is_settled=True)
            unchanged = before is trace.before and word is trace.word
            known[trace] = trace if unchanged else Trace(before, word)
        return known[trace]

    return [settled(trace) for trace in traces]


def with_shares(words: Iterable[HeardWord], shares: Shares) -> tuple[HeardWord, ...]:
    """``words`` with the present share of those that are not settled yet."""
    return tuple(
        word if word.is_settled else replace(word, posterior=shares.of(word)) for word in words
    )
