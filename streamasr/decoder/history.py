"""What lies behind a hypothesis: its words, for the language model and in time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamasr.decoder.hypothesis import HeardWord
from streamasr.decoder.scorer import State

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WordScore = Callable[[State, int], tuple[float, State]]
"""From a scorer's state and a word's number to what the word adds to a score, and the state
after it."""


class Context:
    """A history of whole words and what the scorer makes of it.

    ``score`` is the history's own part of a hypothesis' score. Contexts with the same
    ``state`` (a number within the utterance) get the same scores for whatever follows.
    """

    __slots__ = (
        "_following",
        "_states",
        "depth",
        "parent",
        "score",
        "scorer_state",
        "state",
        "word",
    )

    def __init__(
        self, parent: "Context | None", word: int, score: float, scorer_state: State
    ) -> None:
        self.parent = parent
        self.word = word
        self.score = score
        self.scorer_state = scorer_state
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._states: dict[State, int] = {} if parent is None else parent._states
        self.state = self._states.setdefault(scorer_state, len(self._states))
        self._following: dict[int, Context] = {}

    def then(self, word: int, score_of: WordScore) -> "Context":
        """This history and ``word``."""
        known = self._following.get(word)
        if known is None:
            score, scorer_state = score_of(self.scorer_state, word)
            known = self._following[word] = Context(self, word, self.score + score, scorer_state)
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The words of one path, newest first, with their places in it."""

    before: "Trace | None"
    word: HeardWord

    def words(self) -> tuple[HeardWord, ...]:
        found = []
        trace: Trace | None = self
        while trace is not None:
            found.append(trace.word)
            trace = trace.before
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Paths:
    """Of each hypothesis' best path, where its word in progress lies and how sure it is.

    ``first`` is the step of a word's first label (−1 before it), ``sum`` adds up the highest
    log-probabilities of the finished ones of its ``count`` labels, ``peak`` is that of the
    last one; ``traces`` are the words before.
    """

    first: Ints
    sum: Floats
    peak: Floats
    count: Ints
    traces: NDArray[np.object_]

    def take(self, index: Ints) -> "Paths":
        return Paths(
            self.first[index], self.sum[index], self.peak[index], self.count[index],
            self.traces[index],
        )  # fmt: skip
