"""Beam search over characters: an open vocabulary, chunk by chunk.

pyctcdecode scores, merges and prunes the hypotheses; it has no call that stops between
chunks, so the walk over the steps is done here, in the order of its own offline decode:
extend every hypothesis by every probable label, merge what spells the same, score with
the language model, drop what fell behind, keep the best. tests/test_characters.py holds
the two equal.

A beam is a value: its hypotheses are pyctcdecode's tuples. The score caches beside them
only remember what the language model said of a text; sharing them changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyctcdecode.alphabet import Alphabet as LibraryAlphabet
from pyctcdecode.constants import DEFAULT_MIN_TOKEN_LOGP, DEFAULT_PRUNE_LOGP, MIN_TOKEN_CLIP_P
from pyctcdecode.decoder import (
    EMPTY_START_BEAM,
    NULL_FRAMES,
    BeamSearchDecoderCTC,
    _merge_beams,
    _sort_and_trim_beams,
)
from pyctcdecode.language_model import HotwordScorer, LanguageModel

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import CHARACTER_ALPHABET, SPACE, Alphabet
from streamasr.decoder.hypothesis import Heard, HeardWord, Hypothesis, LogProbs
from streamasr.decoder.interpolated import InterpolatedModel
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import LanguageModelError

_Hypotheses = tuple[tuple[Any, ...], ...]


@dataclass(slots=True)
class _Scores:
    """What the language model said of texts and of parts of words."""

    texts: dict[Any, Any]
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class CharacterBeam(Heard):
    """The set of hypotheses after ``steps`` steps of an utterance; a value."""

    hypotheses: _Hypotheses = field(repr=False)
    _scores: _Scores = field(repr=False)


def greedy_text(log_probs: LogProbs) -> str:
    """The words of the most probable path; ``log_probs`` are of ``CHARACTER_ALPHABET``."""
    return " ".join("".join(CHARACTER_ALPHABET.collapse(log_probs.argmax(1).tolist())).split())


class CharacterSearch:
    """The search for one alphabet and language model; shared and immutable."""

    def __init__(
        self,
        alphabet: Alphabet,
        language_model: NgramModel | None,
        vocabulary: Sequence[str],
        config: DecoderConfig,
    ) -> None:
        """``vocabulary`` are the words that count as known; others cost a penalty.

        Raises LanguageModelError for a language model made of two, which pyctcdecode cannot use.
        """
        if isinstance(language_model, InterpolatedModel):
            raise LanguageModelError(
                "characters are searched with one language model only: leave out "
                "model.own_language_model (--own-language-model), or recognise phones"
            )
        self.alphabet = alphabet
        self._space = alphabet.ids([SPACE])[0]
        self._labels = tuple(
            "" if i == alphabet.blank_id else s for i, s in enumerate(alphabet.labels)
        )
        self._model = None
        if language_model is not None:
            self._model = LanguageModel(
                language_model.kenlm_model,
                vocabulary,
                alpha=config.lm_weight,
                beta=config.word_bonus,
            )
        self._library = BeamSearchDecoderCTC(
            LibraryAlphabet.build_alphabet(list(self._labels)), self._model
        )
        self._no_hotwords = HotwordScorer.build_scorer(None)
        self._beam_size = config.beam_size

    def start(self) -> CharacterBeam:
        """The beam of an utterance of which nothing has been heard."""
        first = None if self._model is None else self._model.get_start_state()
        scores = _Scores({("", False): (0.0, 0.0, first)})
        return CharacterBeam((), 0, (EMPTY_START_BEAM,), scores)

    def advance(self, beam: CharacterBeam, log_probs: LogProbs) -> CharacterBeam:
        """Hear ``(steps, labels)`` more; ``beam`` itself stays as it was."""
        hypotheses: Sequence[tuple[Any, ...]] = beam.hypotheses
        clipped = np.clip(log_probs, np.log(MIN_TOKEN_CLIP_P), 0)
        for step, column in enumerate(clipped, start=beam.steps):
            extended = [
                extension
                for token in set(np.where(column >= DEFAULT_MIN_TOKEN_LOGP)[0]) | {column.argmax()}
                for hypothesis in hypotheses
                for extension in self._extend(hypothesis, self._labels[token], column[token], step)
            ]
            scored = self._score(_merge_beams(extended), beam._scores)
            hypotheses = [hypothesis[:-1] for hypothesis in scored]
        return CharacterBeam(
            (*beam.chunks, log_probs), beam.steps + len(log_probs), tuple(hypotheses), beam._scores
        )

    def best(self, beam: CharacterBeam) -> Hypothesis:
        """The best hypothesis so far, of whole words; only reads."""
        text, *_, frames, _, score = beam.hypotheses[0]
        return self._hypothesis(text, frames, score, beam.log_probs)

    def best_whole(self, beam: CharacterBeam) -> Hypothesis:
        """The same: an utterance may end after any word."""
        return self.best(beam)

    def stable_words(self, beam: CharacterBeam) -> tuple[str, ...]:
        """The words that all hypotheses begin with; only reads."""
        stable = []
        for words in zip(*(hypothesis[0].split() for hypothesis in beam.hypotheses), strict=False):
            if len(set(words)) > 1:
                break
            stable.append(words[0])
        return tuple(stable)

    def finish(self, beam: CharacterBeam, most: int) -> list[Hypothesis]:
        """The utterance is over: up to ``most`` readings of distinct texts, best first."""
        last: list[Any] = [
            (text, part, "", None, [*frames, span] if part else frames, NULL_FRAMES, score)
            for text, _, part, _, frames, span, score in beam.hypotheses
        ]
        scored = self._score(_merge_beams(last), beam._scores, ended=True)
        return [
            self._hypothesis(hypothesis[0], hypothesis[4], hypothesis[-1], beam.log_probs)
            for hypothesis in scored[:most]
        ]

    def decode(self, log_probs: LogProbs, most: int = 1) -> list[Hypothesis]:
        """A whole utterance by the library's own offline call."""
        logits: Any = log_probs  # the library's annotation knows no concrete float type
        beams = self._library.decode_beams(logits, beam_width=self._beam_size)
        return [
            self._hypothesis(text, [span for _, span in words], score, log_probs)
            for text, _, words, _, score in beams[:most]
        ]

    def is_speech(self, log_probs: LogProbs) -> NDArray[np.bool_]:
        """``(steps,)``: where a letter is more probable than blank and space."""
        best = log_probs.argmax(axis=1)
        speech: NDArray[np.bool_] = ~np.isin(best, (self.alphabet.blank_id, self._space))
        return speech

    def _extend(
        self, hypothesis: tuple[Any, ...], label: str, log_prob: float, step: int
    ) -> Iterator[tuple[Any, ...]]:
        """``hypothesis`` one step later, if that step is ``label``."""
        text, word, part, last, frames, span, score = hypothesis
        score = score + log_prob
        if label == last and label:
            yield text, word, part, label, frames, (span[0], step + 1), score
        elif not label:
            yield text, word, part, label, frames, span, score
        elif label == SPACE:
            yield text, part, "", label, [*frames, span] if part else frames, NULL_FRAMES, score
        else:
            first = step if span[0] < 0 else span[0]
            yield text, word, part + label, label, frames, (first, step + 1), score

    def _score(
        self, hypotheses: list[Any], scores: _Scores, *, ended: bool = False
    ) -> list[tuple[Any, ...]]:
        scored = self._library._get_lm_beams(
            hypotheses, self._no_hotwords, scores.texts, scores.parts, is_eos=ended
        )
        worst = max(hypothesis[-1] for hypothesis in scored) + DEFAULT_PRUNE_LOGP
        kept = [hypothesis for hypothesis in scored if hypothesis[-1] >= worst]
        return list(_sort_and_trim_beams(kept, self._beam_size))

    def _hypothesis(
        self, text: str, frames: Sequence[tuple[int, int]], score: float, log_probs: LogProbs
    ) -> Hypothesis:
        words = tuple(
            HeardWord(word, first, end, self._sureness(word, log_probs[first:end]))
            for word, (first, end) in zip(text.split(), frames, strict=False)
        )
        return Hypothesis(words, float(score))

    def _sureness(self, word: str, log_probs: LogProbs) -> float:
        peaks = log_probs[:, self.alphabet.ids(word)].max(axis=0)
        return round(float(np.exp(peaks.mean())), 4)
