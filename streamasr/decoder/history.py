"""What lies behind a hypothesis: its words, for the language model and in time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.decoder.hypothesis import HeardWord

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WordScore = Callable[[Any, int], tuple[float, Any]]
"""From a language model's state and a word's number to what the word adds to a score, and
the state after it."""


class Context:
    """A history of whole words and what the language model makes of it.

    ``score`` is the history's own part of a hypothesis' score. Contexts with the same
    ``state`` (a number within the utterance) get the same scores for whatever follows.
    """

    __slots__ = (
        "_following",
        "_states",
        "depth",
        "model_state",
        "parent",
        "score",
        "state",
        "word",
    )

    def __init__(self, parent: "Context | None", word: int, score: float, model_state: Any) -> None:
        self.parent = parent
        self.word = word
        self.score = score
        self.model_state = model_state
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._states: dict[Any, int] = {} if parent is None else parent._states
        self.state = self._states.setdefault(model_state, len(self._states))
        self._following: dict[int, Context] = {}

    def then(self, word: int, score_of: WordScore) -> "Context":
        """This history and ``word``."""
        known = self._following.get(word)
        if known is None:
            score, model_state = score_of(self.model_state, word)
            known = self._following[word] = Context(self, word, self.score + score, model_state)
        return known


@dataclass(frozen=True, slots=True)
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
