"""What both searches find, and what defines their beams."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LogProbs = NDArray[np.float32]
"""``(steps, labels)`` natural logs."""


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of a hypothesis.

    Steps count from the beam's start: the word's first label begins at ``first_step``, its
    last one is over at ``end_step`` (exclusive). ``sureness`` is the geometric mean, over
    the word's labels, of the highest probability that the network gave the label where the
    path has it (the last label: where it begins). ``posterior`` is the share of the beam
    that hears this word at this time, ``is_settled`` whether that was taken a while after
    the word (posterior.py) and stays; None where the search does not know. All in 0..1.
    """

    word: str
    first_step: int
    end_step: int
    sureness: float
    posterior: float | None = None
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One reading; ``score`` is a natural log, comparable within one beam only."""

    words: tuple[HeardWord, ...]
    score: float

    @property
    def text(self) -> str:
        """The words, in single spaces."""
        return " ".join(word.word for word in self.words)


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What defines a beam: the log-probabilities of its utterance, chunk by chunk.

    Two beams are equal if they have heard the same.
    """

    chunks: tuple[LogProbs, ...]
    steps: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heard) and np.array_equal(self.log_probs, other.log_probs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def log_probs(self) -> LogProbs:
        """``(steps, labels)``: everything this beam has heard."""
        return np.concatenate(self.chunks) if self.chunks else np.zeros((0, 0), np.float32)
