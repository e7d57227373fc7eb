"""Beam search over phones with a lexicon and an n-gram model, chunk by chunk.

Theory of operation
-------------------
The search is flashlight-text's lexicon decoder (Collobert et al., "Wav2Letter", 2016):
a hypothesis is a path through the lexicon's prefix tree together with the state of the
language model after its last whole word. At every step each hypothesis stays where it is
(blank, or its last phone held), or moves to a child in the tree; at the end of a
pronunciation the word's language-model score is added and the hypothesis goes back to the
root. Two hypotheses at the same node with the same language-model state and last token
are merged: the better one survives (``log_add`` off: Viterbi). What falls more than
``beam_threshold`` behind the best, or out of the ``beam_size`` best, is dropped. Inside a
word the best unigram score below the node stands in for the word's score ("smearing").

The library breaks ties by memory addresses, and rare homophones do tie (they back off to
equal unigrams), so equal samples could give different words. ``_WordScores`` therefore
sits between the library and the n-gram model and gives every word a nudge of its own,
smaller than anything that matters and larger than rounding.

flashlight's decoder is an object that changes; a stream's state is a value. So a ``Beam``
holds the log-probabilities of its utterance, which define it, and beside them a
``_Cursor``: the decoder that has already eaten them. Advancing a beam moves its cursor
on; a beam whose cursor has been moved on by somebody else makes itself a new one from its
log-probabilities. An editor must keep to that: nothing may be read from a cursor whose
``steps`` are not the beam's. The decoder keeps its back-pointers until the utterance ends
(``prune`` is never called), so that chunks give what the whole gives, exactly; endpoints
bound the utterance.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flashlight.lib.text.decoder import (
    LM,
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    LMState,
    SmearingMode,
    Trie,
)
from numpy.typing import NDArray

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.lexicon import BOUNDARY, Lexicon, Phones
from streamasr.decoder.ngram import NgramModel

LogProbs = NDArray[np.float32]
"""``(steps, labels)`` natural logs."""


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of a hypothesis.

    Steps count from the beam's start: the word's first label begins at ``first_step``, its
    last one is over at ``end_step``, its boundary at ``boundary_step`` (both exclusive).
    ``confidence`` is the geometric mean, over the word's labels, of the highest probability
    that the network gave the label where the path has it: in 0..1, not calibrated.
    """

    word: str
    first_step: int
    end_step: int
    boundary_step: int
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


@dataclass(slots=True)
class _Cursor:
    """A decoder that has eaten ``steps`` steps; −1 once it has been ended. ``scores`` is
    kept because the decoder only borrows it."""

    decoder: LexiconDecoder
    scores: "_WordScores"
    steps: int


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


@dataclass(frozen=True, slots=True, eq=False)
class Beam(Heard):
    """The set of hypotheses after ``steps`` steps of an utterance; a value."""

    _cursor: _Cursor = field(repr=False)


class _WordScores(LM):  # type: ignore[misc]
    """The n-gram model as one utterance's decoder asks it: natural logs, words by number.

    flashlight hands out states as nodes of a tree of word histories, the same node for the
    same history, and asks for a word's score again at every step at which a hypothesis
    might end it. So what the n-gram model said is kept with the node: the score of its
    last word, and the model's own state.
    """

    def __init__(
        self, model: NgramModel | None, words: Sequence[str], nudges: Sequence[float]
    ) -> None:
        super().__init__()
        self._model = model
        self._words = words
        self._nudges = nudges
        self._known: dict[LMState, tuple[float, Any]] = {}

    def start(self, start_with_nothing: bool) -> LMState:
        state = LMState()
        self._known[state] = (0.0, None if self._model is None else self._model.start())
        return state

    def score(self, state: LMState, number: int) -> tuple[LMState, float]:
        child = state.child(number)
        known = self._known.get(child)
        if known is None:
            score, after = self._nudges[number], None
            if self._model is not None:
                likely, after = self._model.score(self._known[state][1], self._words[number])
                score += likely
            known = self._known[child] = (score, after)
        return child, known[0]

    def finish(self, state: LMState) -> tuple[LMState, float]:
        score = 0.0 if self._model is None else self._model.finish(self._known[state][1])
        return state, score


_MOST_HOMOPHONES = 6
"""How many words the library keeps for one pronunciation."""
_LARGEST_NUDGE = 1e-4
"""Natural log; an n-gram score of −10 in float32 is rounded to 1e-6."""


class LexiconSearch:
    """The search for one alphabet, lexicon and language model; shared and immutable."""

    def __init__(
        self,
        alphabet: Alphabet,
        lexicon: Lexicon,
        language_model: NgramModel | None,
        config: DecoderConfig,
    ) -> None:
        """Without ``language_model`` every word is as likely as the others.

        Raises KeyError for a phone of the lexicon that is not in the alphabet.
        """
        self.alphabet = alphabet
        self._words = tuple(lexicon)
        self._boundary = alphabet.ids([BOUNDARY])[0]
        self._model = language_model
        self._blank_penalty = np.float32(config.blank_penalty)
        nudges = np.random.default_rng(0).uniform(-_LARGEST_NUDGE, 0, len(lexicon))
        self._nudges: list[float] = nudges.tolist()
        self._trie = self._build_trie(lexicon)
        self._options = LexiconDecoderOptions(
            beam_size=config.beam_size,
            beam_size_token=len(alphabet.labels),
            beam_threshold=config.beam_threshold,
            lm_weight=config.lm_weight,
            word_score=config.word_bonus,
            unk_score=-np.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=CriterionType.CTC,
        )

    def _build_trie(self, lexicon: Lexicon) -> Trie:
        """The prefix tree of all pronunciations, with the best homophones at each end."""
        homophones: dict[Phones, list[tuple[float, int]]] = defaultdict(list)
        for number, (word, pronunciations) in enumerate(lexicon.items()):
            score = self._nudges[number]
            if self._model is not None:
                score += self._model.score(self._model.start(), word)[0]
            for phones in pronunciations:
                homophones[phones].append((score, number))
        index = {label: token for token, label in enumerate(self.alphabet.labels)}
        trie = Trie(len(index), self._boundary)
        for phones, words in homophones.items():
            tokens = [*(index[phone] for phone in phones), self._boundary]
            for score, number in sorted(words, reverse=True)[:_MOST_HOMOPHONES]:
                trie.insert(tokens, number, score)
        trie.smear(SmearingMode.MAX)
        return trie

    def _scores(self) -> _WordScores:
        return _WordScores(self._model, self._words, self._nudges)

    def start(self) -> Beam:
        """The beam of an utterance of which nothing has been heard."""
        return Beam((), 0, self._cursor(()))

    def advance(self, beam: Beam, log_probs: LogProbs) -> Beam:
        """Hear ``(steps, labels)`` more; ``beam`` itself stays as it was."""
        if len(log_probs) == 0:
            return beam
        cursor = self._cursor_of(beam)
        self._step(cursor, log_probs)
        return Beam((*beam.chunks, log_probs), cursor.steps, cursor)

    def best(self, beam: Beam) -> Hypothesis:
        """The best hypothesis so far, of whole words; only reads."""
        if beam.steps == 0:
            return Hypothesis((), 0.0)
        result = self._cursor_of(beam).decoder.get_best_hypothesis()
        return self._hypothesis(result, beam.log_probs)

    def stable_text(self, beam: Beam) -> str:
        """The words that all hypotheses begin with; only reads.

        Every later hypothesis grows out of one of these, so no event revises them.
        """
        if beam.steps == 0:
            return ""
        paths = [
            result.words for result in self._cursor_of(beam).decoder.get_all_final_hypothesis()
        ]
        readings = [[number for number in path if number >= 0] for path in paths]
        stable = []
        for numbers in zip(*readings, strict=False):
            if len(set(numbers)) > 1:
                break
            stable.append(self._words[numbers[0]])
        return " ".join(stable)

    def is_speech(self, log_probs: LogProbs) -> NDArray[np.bool_]:
        """``(steps,)``: where a phone is more probable than blank and boundary."""
        best = log_probs.argmax(axis=1)
        speech: NDArray[np.bool_] = ~np.isin(best, (self.alphabet.blank_id, self._boundary))
        return speech

    def finish(self, beam: Beam, most: int) -> list[Hypothesis]:
        """The utterance is over: up to ``most`` readings of distinct texts, best first."""
        if beam.steps == 0:
            return [Hypothesis((), 0.0)]
        cursor = self._cursor_of(beam)
        cursor.decoder.decode_end()
        cursor.steps = -1
        results = cursor.decoder.get_all_final_hypothesis()
        return self._distinct(results, most, beam.log_probs)

    def decode(self, log_probs: LogProbs, most: int = 1) -> list[Hypothesis]:
        """A whole utterance by the library's own offline call."""
        scores = self._scores()
        emissions = self._emissions(log_probs)
        results = self._decoder(scores).decode(emissions.ctypes.data, *emissions.shape)
        return self._distinct(results, most, log_probs)

    def _decoder(self, scores: _WordScores) -> LexiconDecoder:
        return LexiconDecoder(
            self._options,
            self._trie,
            scores,
            self._boundary,
            self.alphabet.blank_id,
            -1,
            [],
            False,
        )

    def _cursor(self, chunks: Sequence[LogProbs]) -> _Cursor:
        scores = self._scores()
        decoder = self._decoder(scores)
        decoder.decode_begin()
        cursor = _Cursor(decoder, scores, 0)
        for chunk in chunks:
            self._step(cursor, chunk)
        return cursor

    def _step(self, cursor: _Cursor, log_probs: LogProbs) -> None:
        emissions = self._emissions(log_probs)
        cursor.decoder.decode_step(emissions.ctypes.data, *emissions.shape)
        cursor.steps += len(emissions)

    def _emissions(self, log_probs: LogProbs) -> LogProbs:
        """A copy for the decoder, with the blank made less sure of itself."""
        emissions = np.array(log_probs, np.float32, order="C")
        emissions[:, self.alphabet.blank_id] -= self._blank_penalty
        return emissions

    def _cursor_of(self, beam: Beam) -> _Cursor:
        return beam._cursor if beam._cursor.steps == beam.steps else self._cursor(beam.chunks)

    def _distinct(self, results: Sequence[Any], most: int, log_probs: LogProbs) -> list[Hypothesis]:
        found: dict[tuple[int, ...], Hypothesis] = {}
        for result in results:
            numbers = tuple(number for number in result.words if number >= 0)
            if numbers not in found:
                found[numbers] = self._hypothesis(result, log_probs)
            if len(found) == most:
                break
        return list(found.values()) or [Hypothesis((), 0.0)]

    def _hypothesis(self, result: Any, log_probs: LogProbs) -> Hypothesis:
        """Words and their steps, from the path of one token and one word a step.

        The path begins with the root, before step 0; a word's number stands at the step of
        its boundary. After ``finish`` the path has one more entry, which is no step.
        """
        silent = (self.alphabet.blank_id, self._boundary)
        words = []
        first = end = -1
        peaks: list[float] = []
        previous = self.alphabet.blank_id
        path = zip(result.tokens[1:], result.words[1:], strict=True)
        for step, (token, number) in enumerate(path):
            if token not in silent and step < len(log_probs):
                log_prob = float(log_probs[step, token])
                if token == previous:
                    peaks[-1] = max(peaks[-1], log_prob)
                else:
                    peaks.append(log_prob)
                first = step if first < 0 else first
                end = step + 1
            if number >= 0:
                confidence = round(float(np.exp(np.mean(peaks))), 4)
                words.append(HeardWord(self._words[number], first, end, step + 1, confidence))
                first = end = -1
                peaks = []
            previous = token
        return Hypothesis(tuple(words), result.score)
