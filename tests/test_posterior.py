"""How sure the beam is of its words, by hand and on real speech."""

import itertools

import numpy as np
import pytest

from streamasr.decoder.confidence import Calibration
from streamasr.decoder.history import Trace
from streamasr.decoder.hypothesis import HeardWord
from streamasr.decoder.posterior import SETTLE_STEPS, Shares, settle, with_shares
from streamasr.recognizer import Recognizer, Samples

RED = HeardWord("red", 0, 4, 0.9)
READ = HeardWord("read", 0, 4, 0.9)
LATER_RED = HeardWord("red", 1, 5, 0.8)
SHOE = HeardWord("shoe", 6, 9, 0.5)


def test_a_share_adds_up_what_hears_the_word_at_that_time() -> None:
    red, read, later = Trace(None, RED), Trace(None, READ), Trace(None, LATER_RED)
    traces = [Trace(red, SHOE), read, later, Trace(read, RED), None]
    shares = Shares(traces, np.log(np.array([0.4, 0.2, 0.1, 0.2, 0.1])))
    assert shares.of(RED) == pytest.approx(0.4 + 0.1 + 0.2)
    assert shares.of(READ) == pytest.approx(0.2 + 0.2)
    assert shares.of(SHOE) == pytest.approx(0.4)
    assert shares.of(HeardWord("red", 20, 24, 0.9)) == 0
    assert shares.of(HeardWord("blue", 0, 4, 0.9)) == 0


def test_a_word_settles_once_and_keeps_its_share() -> None:
    red, read = Trace(None, RED), Trace(None, READ)
    traces = [Trace(red, SHOE), Trace(read, SHOE), red]
    scores = np.log(np.array([0.5, 0.3, 0.2]))
    step = RED.end_step + SETTLE_STEPS
    settled = settle(traces, Shares(traces, scores), step)
    assert settled[0].before is settled[2]  # still one history
    assert settled[2].word.is_settled
    assert settled[2].word.posterior == pytest.approx(0.7)
    assert settled[1].before.word.posterior == pytest.approx(0.3)
    assert not settled[0].word.is_settled
    alone = [settled[0]]
    again = settle(alone, Shares(alone, np.zeros(1)), step + 1)
    assert again[0] is settled[0]
    words = with_shares(again[0].words(), Shares(alone, np.zeros(1)))
    assert [word.posterior for word in words] == [pytest.approx(0.7), 1.0]


def test_words_of_speech_settle_and_what_is_settled_stays(
    recognizer: Recognizer, demo: Samples
) -> None:
    search = recognizer.search
    log_probs = recognizer.head(recognizer.acoustic.forward(recognizer.logmel(demo[:80_000])))
    beam = search.start()
    known: dict[tuple[str, int], float] = {}
    for column in log_probs:
        beam = search.advance(beam, column[None])
        words = search.best(beam).words
        for word, after in itertools.pairwise(words):
            assert word.is_settled >= after.is_settled
        for word in words:
            assert word.posterior is not None
            assert 0 <= word.posterior <= 1
            late = beam.steps - word.end_step >= SETTLE_STEPS + 4
            assert word.is_settled or not late
            if word.is_settled:
                key = (word.word, word.first_step)
                assert known.setdefault(key, word.posterior) == word.posterior
    assert len(known) >= 5


def test_calibration_is_a_chance_that_grows_with_what_is_known() -> None:
    as_it_is = Calibration()
    assert as_it_is(HeardWord("red", 0, 4, 0.2, posterior=0.75)) == pytest.approx(0.75)
    learned = Calibration(0.5, 0.4, 0.3)
    chances = [
        learned(HeardWord("red", 0, 4, sureness, posterior=posterior))
        for posterior, sureness in [(0.0, 0.0), (0.1, 0.1), (0.1, 0.9), (0.9, 0.9), (1.0, 1.0)]
    ]
    assert chances == sorted(chances)
    assert 0 < chances[0] < chances[-1] < 1
    assert learned(HeardWord("red", 0, 4, 0.3)) == 0.3  # characters know no posterior
