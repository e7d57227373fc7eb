"""Words that are added to a search, and a filler, against searches that had them all along."""

import numpy as np
import pytest

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import BLANK, PHONE_ALPHABET, Alphabet
from streamasr.decoder.beam import LexiconSearch
from streamasr.decoder.graph import WordGraph
from streamasr.decoder.hypothesis import LogProbs
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.phrases import UNKNOWN, PhraseList
from streamasr.decoder.scorer import WeightedModel

SMALL = Alphabet((BLANK, "AA", "B", "AA|", "B|"), 0)
BASE = {"a": (("AA",),), "ba": (("B", "AA"), ("B",)), "ay": (("AA",),)}
ADDED = {"ab": (("AA", "B"),), "bay": (("B", "AA"),), "aba": (("AA", "B", "AA"),)}
EXACT = DecoderConfig(beam_size=10**6, beam_threshold=1e9, commit_share=1.0)


def random_log_probs(steps: int, labels: int, seed: int) -> LogProbs:
    logits = np.random.default_rng(seed).normal(0, 2, (steps, labels))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def scores(search: LexiconSearch, log_probs: LogProbs) -> dict[str, float]:
    return {reading.text: reading.score for reading in search.decode(log_probs, 10**6)}


@pytest.mark.parametrize("seed", range(6))
def test_added_words_are_as_if_they_had_been_there(seed: int) -> None:
    scorer = WeightedModel(None, EXACT)
    base = WordGraph.of(SMALL, Lexicon(BASE), scorer)
    once = LexiconSearch(base.extended(scorer, Lexicon(ADDED), ADDED), scorer, EXACT)
    first = Lexicon({"ab": ADDED["ab"]})
    rest = Lexicon({word: ADDED[word] for word in ("bay", "aba")})
    twice = base.extended(scorer, first, []).extended(scorer, rest, ["a"])
    whole = LexiconSearch.of(SMALL, Lexicon({**BASE, **ADDED}), None, EXACT)
    log_probs = random_log_probs(7, len(SMALL.labels), seed)
    expected = scores(whole, log_probs)
    assert scores(once, log_probs) == pytest.approx(expected, abs=1e-9)
    assert scores(LexiconSearch(twice, scorer, EXACT), log_probs) == pytest.approx(
        expected, abs=1e-9
    )


def test_a_raised_word_raises_what_leads_to_it() -> None:
    scorer = WeightedModel(None, EXACT)
    tree = WordGraph.of(SMALL, Lexicon({**BASE, **ADDED}), scorer).tree
    raised = tree.raised({5: 3.0})  # aba: AA B AA|
    higher = np.flatnonzero(raised.best > tree.best)
    assert tree.token[higher].tolist() == [-1, *SMALL.ids(["AA", "B", "AA|"])]
    assert (raised.best[higher] == 3.0).all()
    assert (tree.best == 0.0).all()


def test_a_filler_is_any_labels_at_a_cost_each() -> None:
    """With a list of nothing but one word and ``[unk]``, a text's score is the sum over all
    paths: here the best path is so likely that it is the sum."""
    scorer = PhraseList([("a",), (UNKNOWN,)])
    graph = WordGraph.of(PHONE_ALPHABET, Lexicon({"a": (("AH",),)}), scorer)
    search = LexiconSearch(graph.with_filler(UNKNOWN, -2.0), scorer, EXACT)
    labels = PHONE_ALPHABET.ids(["K", "AE", "T|", "AH|"])
    path = [token for label in labels for token in (label, 0)]
    log_probs = np.full((len(path), len(PHONE_ALPHABET.labels)), -40.0, np.float32)
    log_probs[range(len(path)), path] = -1e-4
    found = scores(search, log_probs)
    assert found[f"{UNKNOWN} a"] == pytest.approx(-6.0, abs=0.01)
    assert found[f"{UNKNOWN} {UNKNOWN}"] == pytest.approx(-8.0, abs=0.01)
    assert search.decode(log_probs)[0].text == f"{UNKNOWN} a"
