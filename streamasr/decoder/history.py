"""What lies behind a hypothesis: its words, for the language model and in time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamasr.decoder.hypothesis import HeardWord
from streamasr.decoder.scorer import State

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
WordScore = Callable[[State, int], tuple[float, State]]
"""From a scorer's state and a word's number to what the word adds to a score, and the state
after it."""


class Context:
    """A history of whole words and what the scorer makes of it; made by ``Contexts``.

    ``score`` is the history's own part of a hypothesis' score. Contexts with the same
    ``state`` (a number within the utterance) get the same scores for whatever follows.
    """

    __slots__ = ("depth", "parent", "score", "scorer_state", "state", "word")

    def __init__(
        self, parent: "Context | None", word: int, score: float, scorer_state: State, state: int
    ) -> None:
        self.parent = parent
        self.word = word
        self.score = score
        self.scorer_state = scorer_state
        self.state = state
        self.depth: int = 0 if parent is None else parent.depth + 1


class Contexts:
    """The contexts of one utterance, made when they are asked for.

    A context does not know what follows it: then contexts would be held by a circle of
    references, and tens of thousands an utterance would stay until Python looks for those.
    """

    __slots__ = ("_following", "_states")

    def __init__(self) -> None:
        self._states: dict[State, int] = {}
        self._following: dict[Context, dict[int, Context]] = {}

    def root(self, scorer_state: State) -> Context:
        """The history without words."""
        return Context(None, -1, 0.0, scorer_state, self._number(scorer_state))

    def after(self, context: Context, word: int, score_of: WordScore) -> Context:
        """The history of ``context`` and ``word``."""
        following = self._following.get(context)
        if following is None:
            following = self._following[context] = {}
        known = following.get(word)
        if known is None:
            score, scorer_state = score_of(context.scorer_state, word)
            known = following[word] = Context(
                context, word, context.score + score, scorer_state, self._number(scorer_state)
            )
        return known

    def only(self, contexts: Iterable[Context]) -> "Contexts":
        """A table of ``contexts`` and what lies behind them; this one stays as it was.

        What is left out may be asked for again, and gets the numbers that it had. What lies
        behind a context stays the same object: hypotheses that come to the same words merge.
        """
        kept: set[Context] = set()
        for each in contexts:
            context: Context | None = each
            while context is not None and context not in kept:
                kept.add(context)
                context = context.parent
        table = Contexts()
        table._states = self._states
        for context in kept & self._following.keys():
            following = self._following[context].items()
            table._following[context] = {word: after for word, after in following if after in kept}
        return table

    def _number(self, scorer_state: State) -> int:
        return self._states.setdefault(scorer_state, len(self._states))


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

    def stepped(
        self,
        step: int,
        emission: Floats,
        *,
        begun: Bools,
        held: Bools,
        at_end: Bools,
        at_root: Bools,
        ended: Ints,
        words: Sequence[str],
    ) -> "Paths":
        """The paths after ``step``, at which each ``emission`` (natural log of the label it is
        on) was heard: a label ``begun`` or the last one ``held`` by the best path. What is
        ``at_end`` has just begun the last label of a word, ``ended`` in ``words``, or holds it."""
        first = np.where(begun & (self.first < 0), step, self.first)
        count = self.count + begun
        total = np.where(begun, self.sum + self.peak, self.sum)
        peak = np.where(begun, emission, np.where(held, np.maximum(self.peak, emission), self.peak))
        traces = self.traces.copy()
        for index in np.flatnonzero(at_end).tolist():
            before = self.traces[index]
            if begun[index]:
                sureness = float(np.exp((total[index] + peak[index]) / count[index]))
                sureness = round(min(1.0, sureness), 4)
                word = HeardWord(words[ended[index]], int(first[index]), step + 1, sureness)
                traces[index] = Trace(before, word)
            else:
                traces[index] = Trace(before.before, replace(before.word, end_step=step + 1))
        none = at_end | at_root
        return Paths(
            np.where(none, -1, first),
            np.where(none, 0.0, total),
            np.where(none, 0.0, peak),
            np.where(none, 0, count),
            traces,
        )


def agreement_with(contexts: Sequence[Context], best: Context) -> Ints:
    """``(contexts,)``: how many words each begins with that ``best`` begins with, too."""
    chain = set()
    context: Context | None = best
    while context is not None:
        chain.add(context)
        context = context.parent
    depths = []
    for each in contexts:
        context = each
        while context not in chain:
            assert context.parent is not None  # all histories begin with the same empty one
            context = context.parent
        depths.append(context.depth)
    return np.array(depths)
