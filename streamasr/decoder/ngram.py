"""The n-gram language model: start, score, finish, with explicit state."""

from pathlib import Path
from typing import Any

import kenlm

_NATURAL = 2.302585092994046
"""Natural logs are KenLM's decimal ones times this."""


class NgramModel:
    """A KenLM model; shared and immutable. Scores are natural logs."""

    def __init__(self, model: Any, path: Path) -> None:
        self.kenlm = model
        self.path = path

    @classmethod
    def load(cls, path: Path) -> "NgramModel":
        return cls(kenlm.Model(str(path)), path)

    def start(self) -> Any:
        state = kenlm.State()
        self.kenlm.BeginSentenceWrite(state)
        return state

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        after = kenlm.State()
        return _NATURAL * self.kenlm.BaseScore(state, word, after), after

    def finish(self, state: Any) -> float:
        return _NATURAL * self.kenlm.BaseScore(state, "</s>", kenlm.State())


def pyctcdecode_model(model, vocabulary, config):
    if model is None:
        return
