"""What a sequence of words adds to a hypothesis' score: the language model, weighted.

The search knows one interface. Classes of phrases (classes.py) are mixed into the language
model, a closed list of phrases (phrases.py) takes its place.
"""

from typing import Any, Protocol

from streamasr.config import DecoderConfig

State = Any
"""What a scorer must remember of the words so far: hashable, compared by value."""


class LanguageModel(Protocol):
    """Natural logs of probabilities, word by word; see ``NgramModel``."""

    def start(self) -> State:
        """The state before the first word."""

    def score(self, state: State, word: str) -> tuple[float, State]:
        """How likely ``word`` is after ``state``, and the state after it."""

    def finish(self, state: State) -> float:
        """How likely it is that nothing follows."""

    def unigram(self, word: str) -> float:
        """How likely ``word`` is after nothing known."""


class Scorer(Protocol):
    """Natural logs that are added to a hypothesis' score as they are."""

    def start(self) -> State:
        """The state before the first word."""

    def score(self, state: State, word: str) -> tuple[float, State]:
        """What ``word`` after ``state`` adds (minus infinity: it cannot follow), and the state
        after it."""

    def finish(self, state: State) -> float:
        """What the end of the utterance adds."""

    def unigram(self, word: str) -> float:
        """What ``word`` may add, its history unknown: ranks a word in progress."""

    def is_whole(self, state: State) -> bool:
        """Whether the utterance may end here."""


class WeightedModel:
    """``lm_weight`` times the language model, and ``word_bonus`` a word.

    Without a model every word is as likely as the others.
    """

    def __init__(self, model: LanguageModel | None, config: DecoderConfig) -> None:
        self.model = model
        self._weight = config.lm_weight
        self._bonus = config.word_bonus

    def start(self) -> State:
        """The state before the first word."""
        return None if self.model is None else self.model.start()

    def score(self, state: State, word: str) -> tuple[float, State]:
        """What ``word`` after ``state`` adds, and the state after it."""
        if self.model is None:
            return self._bonus, None
        score, after = self.model.score(state, word)
        return self._weight * score + self._bonus, after

    def finish(self, state: State) -> float:
        """What the end of the utterance adds."""
        return 0.0 if self.model is None else self._weight * self.model.finish(state)

    def unigram(self, word: str) -> float:
        """What ``word`` adds after nothing known."""
        score = 0.0 if self.model is None else self.model.unigram(word)
        return self._weight * score + self._bonus

    def is_whole(self, _: State) -> bool:
        """An utterance may end after any word."""
        return True
