"""The n-gram language model: how likely is this word after those?

The only module that knows KenLM, by its Python package for scores asked from Python and by
flashlight-text's copy of it for searches in C++.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import kenlm
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from streamasr.errors import LanguageModelError

NgramState: TypeAlias = kenlm.State
"""The words that still matter for the next one; compares and hashes by value, never changes."""

_NATURAL_PER_LOG10 = math.log(10.0)
_MAGIC = b"mmap lm http://kheafield.com/code format version"
# KenLM's binary header: 88 bytes of sanity checks, then the parameters, then the counts
_HAS_WORDS_OFFSET_BYTES = 100
_COUNTS_OFFSET_BYTES = 108
_MEND = "put it back from the release, rebuild it with 'python lm/build.py' or run with --no-lm"


class LanguageModel(Protocol):
    """What a search asks of a language model. Scores are natural logs of probabilities."""

    def start(self) -> Any:
        """Return the state before the first word of a sentence."""

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """Return the score of ``word`` in ``state`` and the state after it."""

    def finish(self, state: Any) -> float:
        """Return the score of the sentence ending in ``state``."""


class NgramModel:
    """A KenLM model with natural-log scores; read-only, shared by all streams.

    ``word in model`` tells whether the vocabulary has a word; ``order`` is the *n* of the
    n-grams.
    """

    def __init__(self, model: kenlm.Model) -> None:
        self._model = model
        self.order: int = model.order

    @classmethod
    def load(cls, path: Path) -> "NgramModel":
        """Map a KenLM binary (or read an ARPA file, slower) into memory.

        Raises
        ------
        LanguageModelError
            The file is missing, unreadable, empty, truncated, or not a KenLM model.
        """
        _refuse_damaged(path)
        config = kenlm.Config()
        config.show_progress = False
        try:
            return cls(kenlm.Model(str(path), config))
        # KenLM quotes the bytes that it dislikes: its message may not even be text
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise _damaged(path, "KenLM cannot load it") from error

    def __contains__(self, word: str) -> bool:
        return word in self._model

    def start(self) -> NgramState:
        """Return the state before the first word of a sentence."""
        state = kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, state: NgramState, word: str) -> tuple[float, NgramState]:
        """Score one word.

        Parameters
        ----------
        state
            What came before, from :meth:`start` or an earlier call; it is not changed.
        word
            Lower case. A word outside the vocabulary gets the score of unknown words.

        Returns
        -------
        score
            Natural logarithm of the word's probability, below zero.
        state
            The state after the word.
        """
        after = kenlm.State()
        return self._model.BaseScore(state, word, after) * _NATURAL_PER_LOG10, after

    def finish(self, state: NgramState) -> float:
        """Return the natural logarithm of the probability that the sentence ends here."""
        score, _ = self.score(state, "</s>")
        return score


def load_for_flashlight(path: Path, words: Sequence[str]) -> Any:
    """Load the same file as flashlight-text's own KenLM, for its decoders.

    flashlight-text passes on KenLM's base-10 logarithms: to weigh a natural log with *w*, give
    its decoder the weight *w* × ln 10.

    Parameters
    ----------
    path
        As for :meth:`NgramModel.load`.
    words
        The decoder's word list; word *i* of it is index *i* for the decoder.

    Raises
    ------
    LanguageModelError
        As for :meth:`NgramModel.load`.
    """
    _refuse_damaged(path)
    try:
        return KenLM(str(path), Dictionary(list(words)))
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise _damaged(path, "KenLM cannot load it") from error


def _refuse_damaged(path: Path) -> None:
    """Raise LanguageModelError for what KenLM would crash on, misread or report badly.

    KenLM maps a binary without reading it all, and misses a cut in its last part: the words,
    each ended by a zero byte, as many as the header counts.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise LanguageModelError(f"no language model at {path}; {_MEND}") from error
    except OSError as error:
        raise LanguageModelError(
            f"cannot read language model {path}: {error.strerror}; name a readable file or run "
            "with --no-lm"
        ) from error
    if not content:
        raise _damaged(path, "it is empty")
    if not content.startswith(_MAGIC):
        if content[:4096].lstrip().startswith(b"\\data\\"):
            return
        raise _damaged(path, "it is not a KenLM model")
    if len(content) < _COUNTS_OFFSET_BYTES + 8:
        raise _damaged(path, "it is truncated")
    if content[_HAS_WORDS_OFFSET_BYTES]:
        (words,) = struct.unpack_from("<Q", content, _COUNTS_OFFSET_BYTES)
        first = content.rfind(b"<unk>\0")
        if first < 0 or content[-1] or content.count(b"\0", first) != words:
            raise _damaged(path, f"its list of {words} words is truncated")


def _damaged(path: Path, reason: str) -> LanguageModelError:
    return LanguageModelError(f"cannot use language model {path}: {reason}; {_MEND}")
