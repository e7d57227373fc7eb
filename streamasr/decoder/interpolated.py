"""Two language models as one: a user's own beside the general one.

The probability of a word is ``weight`` times the own model's plus the rest times the general
one's (Jelinek and Mercer, 1980), so what was said in the user's own texts becomes likely and
everything else stays possible. A word that only one model knows has no probability in the other;
one that neither knows has what both keep for unknown words. So the probabilities of all words of
both and of the unknown word add up to one after every history.
"""

import math
from typing import TypeAlias

from streamasr.decoder.ngram import NgramModel, NgramState

InterpolatedState: TypeAlias = tuple[NgramState, NgramState]
"""The states of the own model and of the general one; compares and hashes by value."""

_END = "</s>"


class InterpolatedModel(NgramModel):
    """An :class:`NgramModel` that is made of two; read-only, shared by all streams.

    It is no KenLM model itself, so only the search for phones can use it.
    """

    def __init__(self, own: NgramModel, general: NgramModel, weight: float) -> None:
        """``weight`` of the own model, between 0 and 1, both excluded."""
        if not 0 < weight < 1:
            raise ValueError(f"the weight must be between 0 and 1, not {weight}")
        self.own = own
        self.general = general
        self.weight = weight
        self.order = max(own.order, general.order)
        self._log_own = math.log(weight)
        self._log_general = math.log1p(-weight)

    def __contains__(self, word: str) -> bool:
        return word in self.own or word in self.general

    def start(self) -> InterpolatedState:
        """Return the state before the first word of a sentence."""
        return self.own.start(), self.general.start()

    def unigram(self, word: str) -> float:
        """Return the natural logarithm of the word's probability after nothing known."""
        return self._mix(word, self.own.unigram(word), self.general.unigram(word))

    def score(self, state: InterpolatedState, word: str) -> tuple[float, InterpolatedState]:
        """Score one word, as :meth:`NgramModel.score` does."""
        own, own_after = self.own.score(state[0], word)
        general, general_after = self.general.score(state[1], word)
        return self._mix(word, own, general), (own_after, general_after)

    def finish(self, state: InterpolatedState) -> float:
        """Return the natural logarithm of the probability that the sentence ends here."""
        return self._mix(_END, self.own.finish(state[0]), self.general.finish(state[1]))

    def _mix(self, word: str, own: float, general: float) -> float:
        """The mixture of two natural logs, each left out where only the other model has the
        word."""
        own += self._log_own
        general += self._log_general
        if word not in self.own:
            if word in self.general:
                return general
        elif word not in self.general:
            return own
        high, low = (own, general) if own > general else (general, own)
        return high + math.log1p(math.exp(low - high))
