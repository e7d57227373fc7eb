"""The n-gram language model: how likely is this word after those?

The only module that knows KenLM.
"""

import math
import struct
from pathlib import Path
from typing import TypeAlias

import kenlm

from streamasr.errors import LanguageModelError

NgramState: TypeAlias = kenlm.State
"""The words that still matter for the next one; compares and hashes by value, never changes."""

_NATURAL_PER_LOG10 = math.log(10.0)
_MAGIC = b"mmap lm http://kheafield.com/code format version"
# KenLM's binary header: 88 bytes of sanity checks, then the parameters, then the counts
_HAS_WORDS_OFFSET_BYTES = 100
_COUNTS_OFFSET_BYTES = 108
_MEND = "put it back from the release, rebuild it with 'python lm/build.py' or run with --no-lm"


class NgramModel:
    """A KenLM model with natural-log scores; read-only, shared by all streams.

    ``word in model`` tells whether the vocabulary has a word; ``order`` is the *n* of the
    n-grams.
    """

    def __init__(self, model: kenlm.Model) -> None:
        self.kenlm_model = model
        self.order: int = model.order

    @classmethod
    def load(cls, path: Path) -> "NgramModel":
        """Read a KenLM binary (or an ARPA file, slower) into memory.

        It is not mapped: a file that is overwritten in place would take its pages from under
        a running program (SIGBUS).

        Raises
        ------
        LanguageModelError
            The file is missing, unreadable, empty, truncated, or not a KenLM model.
        """
        _refuse_damaged(path)
        config = kenlm.Config()
        config.show_progress = False
        config.load_method = kenlm.LoadMethod.READ
        try:
            return cls(kenlm.Model(str(path), config))
        # KenLM quotes the bytes that it dislikes: its message may not even be text
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise _damaged(path, "KenLM cannot load it") from error

    def __contains__(self, word: str) -> bool:
        return word in self.kenlm_model

    def start(self) -> NgramState:
        """Return the state before the first word of a sentence."""
        state = kenlm.State()
        self.kenlm_model.BeginSentenceWrite(state)
        return state

    def unigram(self, word: str) -> float:
        """Return the natural logarithm of the word's probability after nothing known."""
        state = kenlm.State()
        self.kenlm_model.NullContextWrite(state)
        return self.score(state, word)[0]

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
        return self.kenlm_model.BaseScore(state, word, after) * _NATURAL_PER_LOG10, after

    def finish(self, state: NgramState) -> float:
        """Return the natural logarithm of the probability that the sentence ends here."""
        score, _ = self.score(state, "</s>")
        return score


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
