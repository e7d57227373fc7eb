"""The phone search against the library's offline call and against brute force."""

import itertools

import numpy as np
import pytest

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import BLANK, PHONE_ALPHABET, Alphabet
from streamasr.decoder.beam import Beam, Hypothesis, LexiconSearch, LogProbs
from streamasr.decoder.lexicon import BOUNDARY, Lexicon
from streamasr.recognizer import Recognizer

SMALL = Alphabet((BLANK, "AA", "B", BOUNDARY), 0)
WORDS = {"a": (("AA",),), "ba": (("B", "AA"),), "ab": (("AA", "B"),)}


def random_log_probs(steps: int, labels: int, seed: int) -> LogProbs:
    logits = np.random.default_rng(seed).normal(0, 2, (steps, labels))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def heard_in(search: LexiconSearch, chunks: list[LogProbs], most: int = 3) -> list[Hypothesis]:
    beam = search.start()
    for chunk in chunks:
        beam = search.advance(beam, chunk)
        search.best(beam)
        search.stable_text(beam)
    return search.finish(beam, most)


@pytest.fixture(scope="module")
def speech(recognizer: Recognizer, demo: np.ndarray) -> LogProbs:
    return recognizer.head(recognizer.acoustic.forward(recognizer.logmel(demo[:80_000])))


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 1000])
def test_chunks_equal_the_librarys_offline_decode(
    recognizer: Recognizer, speech: LogProbs, chunk: int
) -> None:
    chunks = [speech[first : first + chunk] for first in range(0, len(speech), chunk)]
    whole = recognizer.search.decode(speech, 3)
    assert whole[0].text
    assert heard_in(recognizer.search, chunks) == whole


@pytest.mark.parametrize("seed", range(20))
def test_chunks_equal_the_whole_on_noise(recognizer: Recognizer, seed: int) -> None:
    noise = random_log_probs(30, len(PHONE_ALPHABET.labels), seed)
    pieces = np.split(noise, sorted(np.random.default_rng(seed).integers(0, 30, 4)))
    assert heard_in(recognizer.search, list(pieces)) == recognizer.search.decode(noise, 3)


def best_by_force(log_probs: LogProbs) -> tuple[float, tuple[str, ...]]:
    """The best path of one token a step that spells words of ``WORDS``, each ended by the
    boundary; a boundary may be repeated or stand alone, as silence between words."""
    spelled = {phones: word for word, ways in WORDS.items() for phones in ways}
    best: tuple[float, tuple[str, ...]] = (-np.inf, ())
    for path in itertools.product(range(len(SMALL.labels)), repeat=len(log_probs)):
        words: list[str] = []
        phones: tuple[str, ...] = ()
        for label in SMALL.collapse(path):
            if label != BOUNDARY:
                phones = (*phones, label)
            elif phones:
                words.append(spelled.get(phones, "?"))
                phones = ()
        if phones or "?" in words:
            continue
        score = float(log_probs[range(len(path)), list(path)].sum())
        best = max(best, (score, tuple(words)))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_a_wide_beam_finds_what_brute_force_finds(seed: int) -> None:
    config = DecoderConfig(
        beam_size=5000,
        beam_threshold=1e9,
        lm_weight=0.0,
        word_bonus=0.0,
        blank_penalty=0.0,
    )
    search = LexiconSearch(SMALL, Lexicon(WORDS), None, config)
    log_probs = random_log_probs(6, len(SMALL.labels), seed)
    score, words = best_by_force(log_probs)
    found = heard_in(search, [log_probs[:2], log_probs[2:]], most=1)[0]
    assert found.text == " ".join(words)
    assert found.score == pytest.approx(score, abs=1e-5)  # float32 in, double sums


def test_an_old_beam_stays_what_it_was(recognizer: Recognizer, speech: LogProbs) -> None:
    search = recognizer.search
    old = search.advance(search.start(), speech[:60])
    before = search.best(old)
    one = search.advance(old, speech[60:])
    assert search.best(old) == before
    assert search.advance(old, speech[60:]) == one
    assert search.finish(one, 2) == search.finish(one, 2)
    assert search.best(old) == before


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
        assert 0 <= word.first_step < word.end_step < word.boundary_step <= len(speech)
        assert 0 < word.confidence <= 1
    for word, after in itertools.pairwise(words):
        assert word.boundary_step <= after.first_step


def test_homophones_beyond_the_librarys_limit_are_the_likely_ones(recognizer: Recognizer) -> None:
    """Eight spellings of one sound: without a model any six may stay, and nothing is printed."""
    words = {f"w{number}": (("AA",),) for number in range(8)}
    search = LexiconSearch(SMALL, Lexicon(words), None, DecoderConfig())
    log_probs = np.log(np.array([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]], np.float32))
    runs = [tuple(h.text for h in search.decode(log_probs, 8)) for _ in range(5)]
    assert len(set(runs)) == 1
    assert len([text for text in runs[0] if text]) == 6


def test_the_language_model_decides_between_homophones(recognizer: Recognizer) -> None:
    labels = ["W", "IY", "|", "N", "OW", "|"]
    path = [token for label in PHONE_ALPHABET.ids(labels) for token in (label, 0)]
    log_probs = np.full((len(path), len(PHONE_ALPHABET.labels)), -12.0, np.float32)
    log_probs[range(len(path)), path] = -1e-3
    assert recognizer.search.decode(log_probs)[0].text == "we know"
