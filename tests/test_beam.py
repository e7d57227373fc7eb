"""The phone search against brute force, and against itself in chunks."""

import gc
import itertools
from dataclasses import replace

import numpy as np
import pytest

from streamasr.config import DecoderConfig, shipped
from streamasr.decoder.alphabet import BLANK, PHONE_ALPHABET, Alphabet
from streamasr.decoder.beam import Beam, LexiconSearch
from streamasr.decoder.history import Context
from streamasr.decoder.hypothesis import Hypothesis, LogProbs
from streamasr.decoder.lexicon import WORD_END, Lexicon
from streamasr.decoder.ngram import NgramModel
from streamasr.decoder.posterior import SETTLE_EVERY_STEPS
from streamasr.recognizer import Recognizer

SMALL = Alphabet((BLANK, "AA", "B", "AA|", "B|"), 0)
WORDS = {
    "a": (("AA",),),
    "ba": (("B", "AA"), ("B",)),
    "ab": (("AA", "B"),),
    "ay": (("AA",),),
}


def random_log_probs(steps: int, labels: int, seed: int) -> LogProbs:
    logits = np.random.default_rng(seed).normal(0, 2, (steps, labels))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def heard_in(search: LexiconSearch, chunks: list[LogProbs], most: int = 3) -> list[Hypothesis]:
    beam = search.start()
    for chunk in chunks:
        beam = search.advance(beam, chunk)
        search.best(beam)
        search.stable_words(beam)
    return search.finish(beam, most)


@pytest.fixture(scope="module")
def speech(recognizer: Recognizer, demo: np.ndarray) -> LogProbs:
    return recognizer.head(recognizer.acoustic.forward(recognizer.logmel(demo[:80_000])))


@pytest.mark.parametrize("chunk", [1, 3, 4, 7])
def test_chunks_equal_the_whole(recognizer: Recognizer, speech: LogProbs, chunk: int) -> None:
    chunks = [speech[first : first + chunk] for first in range(0, len(speech), chunk)]
    whole = recognizer.search.decode(speech, 3)
    assert whole[0].text
    assert heard_in(recognizer.search, chunks) == whole


@pytest.mark.parametrize("seed", range(20))
def test_chunks_equal_the_whole_on_noise(recognizer: Recognizer, seed: int) -> None:
    noise = random_log_probs(30, len(PHONE_ALPHABET.labels), seed)
    pieces = np.split(noise, sorted(np.random.default_rng(seed).integers(0, 30, 4)))
    assert heard_in(recognizer.search, list(pieces)) == recognizer.search.decode(noise, 3)


def texts_by_force(
    log_probs: LogProbs, model: NgramModel | None, lm_weight: float, word_bonus: float
) -> dict[str, float]:
    """The score of every text: the sum over all paths of one token a step that spell words of
    ``WORDS``, each with its last label marked, and what the language model says."""
    spelled: dict[tuple[str, ...], list[str]] = {}
    for word, ways in WORDS.items():
        for phones in ways:
            spelled.setdefault(phones, []).append(word)
    sums: dict[str, float] = {}
    columns = log_probs.astype(np.float64)
    for path in itertools.product(range(len(SMALL.labels)), repeat=len(log_probs)):
        *sounds, rest = " ".join(SMALL.collapse(path)).split(WORD_END)
        if rest:
            continue
        ways = [spelled.get(tuple(sound.split()), []) for sound in sounds]
        score = columns[range(len(path)), path].sum()
        for words in itertools.product(*ways):
            text = " ".join(words)
            sums[text] = np.logaddexp(sums.get(text, -np.inf), score)
    for text in sums:
        state = model.start() if model else None
        for word in text.split():
            sums[text] += word_bonus
            if model:
                score, state = model.score(state, word)
                sums[text] += lm_weight * score
        if model and text:
            sums[text] += lm_weight * model.finish(state)
    return sums


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_an_unpruned_search_is_exact(seed: int, with_model: bool) -> None:
    """All texts and scores of brute force, in its order; "a" and "ay" sound alike."""
    config = DecoderConfig(
        beam_size=10**6, beam_threshold=1e9, commit_share=1.0, lm_weight=0.7, word_bonus=-0.3
    )
    path = shipped("lm", "english.kenlm")
    model = NgramModel.load(path) if with_model else None
    search = LexiconSearch.of(SMALL, Lexicon(WORDS), model, config)
    log_probs = random_log_probs(7, len(SMALL.labels), seed)
    expected = texts_by_force(log_probs, model, config.lm_weight, config.word_bonus)
    found = heard_in(search, [log_probs[:2], log_probs[2:]], most=10**6)
    assert {reading.text: reading.score for reading in found} == pytest.approx(expected, abs=1e-9)
    scores = [reading.score for reading in found]
    assert scores == sorted(scores, reverse=True)


def test_a_phrase_may_begin_another() -> None:
    phrases = Lexicon({"ab": (("AA", "B"),), "ab a": (("AA", "B|", "AA"),)})
    search = LexiconSearch.of(SMALL, phrases, None, DecoderConfig(word_bonus=0.0))
    labels = SMALL.ids(["AA", "B|", BLANK, "AA|"])
    log_probs = np.full((4, len(SMALL.labels)), -9.0, np.float32)
    log_probs[range(4), labels] = -0.01
    assert search.decode(log_probs)[0].text == "ab a"
    assert search.decode(log_probs[:3])[0].text == "ab"


def test_a_word_may_follow_itself_after_a_blank_and_lasts_while_it_is_held() -> None:
    search = LexiconSearch.of(
        SMALL, Lexicon({"a": (("AA",),)}), None, DecoderConfig(word_bonus=0.0)
    )
    labels = SMALL.ids(["AA|", "AA|", BLANK, "AA|", BLANK])
    log_probs = np.full((5, len(SMALL.labels)), -9.0, np.float32)
    log_probs[range(5), labels] = -0.01
    words = search.decode(log_probs)[0].words
    assert [(word.word, word.first_step, word.end_step) for word in words] == [
        ("a", 0, 2),
        ("a", 3, 4),
    ]


def test_what_was_pruned_is_gone_and_the_best_stays(
    recognizer: Recognizer, speech: LogProbs
) -> None:
    config = replace(recognizer.decoder, beam_size=20)
    search = LexiconSearch.of(
        PHONE_ALPHABET,
        Lexicon.load(shipped("lm", "lexicon.txt.xz")),
        NgramModel.load(shipped("lm", "english.kenlm")),
        config,
    )
    beam = search.advance(search.start(), speech)
    assert len(beam.nodes) <= 20
    wide = recognizer.search.finish(recognizer.search.advance(search.start(), speech), 1)[0]
    assert search.finish(beam, 1)[0].score <= wide.score + 1e-9


def test_an_old_beam_stays_what_it_was(recognizer: Recognizer, speech: LogProbs) -> None:
    search = recognizer.search
    old = search.advance(search.start(), speech[:60])
    before = search.best(old)
    one = search.advance(old, speech[60:])
    assert search.best(old) == before
    assert search.advance(old, speech[60:]) == one
    assert search.finish(one, 2) == search.finish(one, 2)
    assert search.best(old) == before


def test_an_old_beam_goes_on_after_newer_ones_forgot(
    recognizer: Recognizer, speech: LogProbs
) -> None:
    """What none of the newer beam's hypotheses has, and the old one's may need."""
    search = recognizer.search
    for steps in range(40, 60, 4):
        old = search.advance(search.start(), speech[:steps])
        search.advance(old, speech[steps:])
        alone = search.advance(search.start(), speech[:steps])
        for step in range(steps, steps + 3):
            old = search.advance(old, speech[step : step + 1])
            alone = search.advance(alone, speech[step : step + 1])
            for name in ("nodes", "context", "blank", "label"):
                np.testing.assert_array_equal(getattr(old, name), getattr(alone, name))
            texts = texts_behind(old.contexts)
            assert texts == texts_behind(alone.contexts)
            assert len(set(texts)) == len(texts)


def texts_behind(contexts: tuple[Context, ...]) -> list[tuple[int, ...]]:
    """The numbers of the words of each."""
    found = []
    for each in contexts:
        words, context = [], each
        while context.parent is not None:
            words.append(context.word)
            context = context.parent
        found.append(tuple(reversed(words)))
    return found


def contexts() -> int:
    """How many there are."""
    return sum(type(each) is Context for each in gc.get_objects())


def test_a_long_utterance_holds_no_more_contexts_than_a_short_one(
    recognizer: Recognizer, speech: LogProbs
) -> None:
    gc.collect()
    before = contexts()
    beam = recognizer.search.advance(recognizer.search.start(), speech)
    short = contexts() - before
    for _ in range(3):
        beam = recognizer.search.advance(beam, speech)
    assert beam.steps == 4 * len(speech)
    assert contexts() - before < 2 * short


def test_an_utterance_leaves_nothing_behind(recognizer: Recognizer, speech: LogProbs) -> None:
    """Not even for as long as it takes Python to look for circles of references."""
    gc.collect()
    gc.disable()
    try:
        before = contexts()
        before_forgetting = speech[: len(speech) // SETTLE_EVERY_STEPS * SETTLE_EVERY_STEPS - 1]
        beam = recognizer.search.advance(recognizer.search.start(), before_forgetting)
        assert contexts() > before + 1000
        del beam
        assert contexts() == before
    finally:
        gc.enable()


def test_beams_compare_by_what_they_heard(recognizer: Recognizer, speech: LogProbs) -> None:
    search = recognizer.search

    def after(*chunks: LogProbs) -> Beam:
        beam = search.start()
        for chunk in chunks:
            beam = search.advance(beam, chunk)
        return beam

    assert after(speech[:10], speech[10:20]) == after(speech[:20])
    assert after(speech[:10]) != after(speech[:20])


def test_words_lie_in_order_and_within_the_beam(recognizer: Recognizer, speech: LogProbs) -> None:
    words = recognizer.search.decode(speech)[0].words
    for word in words:
        assert 0 <= word.first_step < word.end_step <= len(speech)
        assert 0 < word.sureness <= 1
    for word, after in itertools.pairwise(words):
        assert word.end_step <= after.first_step


def test_the_language_model_decides_between_homophones(recognizer: Recognizer) -> None:
    labels = ["W", "IY|", "N", "OW|"]
    path = [token for label in PHONE_ALPHABET.ids(labels) for token in (label, 0)]
    log_probs = np.full((len(path), len(PHONE_ALPHABET.labels)), -12.0, np.float32)
    log_probs[range(len(path)), path] = -1e-3
    assert recognizer.search.decode(log_probs)[0].text == "we know"
