"""How likely a word is right, from what the search knows of it."""

import math
from dataclasses import dataclass

from streamasr.decoder.hypothesis import HeardWord

_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression (Platt, "Probabilistic outputs for support vector machines",
    1999) of two features: the log odds of a word's posterior, and the log of its sureness.

    The weights belong to a network, a language model and the search's settings; the
    checkpoint carries them. The default takes the posterior as it is.
    """

    bias: float = 0.0
    posterior_weight: float = 1.0
    sureness_weight: float = 0.0

    def __call__(self, word: HeardWord) -> float:
        """The chance in 0..1 that ``word`` is right; its sureness where the search knows no
        posterior."""
        if word.posterior is None:
            return word.sureness
        odds, sureness = features(word.posterior, word.sureness)
        score = self.bias + self.posterior_weight * odds + self.sureness_weight * sureness
        return round(1 / (1 + math.exp(-score)), 4)


def features(posterior: float, sureness: float) -> tuple[float, float]:
    """The log odds of ``posterior`` and the log of ``sureness``, both kept finite."""
    kept = min(max(posterior, _LEAST), 1 - _LEAST)
    return math.log(kept / (1 - kept)), math.log(max(sureness, _LEAST))
