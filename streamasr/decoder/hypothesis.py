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
    last one is over at ``end_step`` (exclusive). ``confidence`` is the geometric mean, over
    the word's labels, of the highest probability that the network gave the label where the
    path has it (the last label: where it begins): in 0..1, not calibrated.
    """

    word: str
    first_step: int
    end_step: int
    confidence: float


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
