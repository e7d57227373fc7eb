"""The character search against pyctcdecode's own offline call."""

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoder.alphabet import CHARACTER_ALPHABET
from streamasr.decoder.characters import CharacterSearch
from streamasr.decoder.hypothesis import LogProbs
from streamasr.recognizer import Recognizer
from tests.test_beam import random_log_probs


@pytest.fixture(scope="module")
def searches() -> list[CharacterSearch]:
    """With the shipped language model and without one."""
    with_model = Recognizer.load(
        ModelConfig(units="characters"),
        DecoderConfig(beam_size=16, max_alternatives=3),
        EndpointConfig(),
    )
    without = CharacterSearch(CHARACTER_ALPHABET, None, [], DecoderConfig(beam_size=16))
    return [with_model.search, without]


def check(search: CharacterSearch, log_probs: LogProbs, chunk: int) -> None:
    beam = search.start()
    for first in range(0, len(log_probs), chunk):
        beam = search.advance(beam, log_probs[first : first + chunk])
        search.best(beam)
    ours, theirs = search.finish(beam, 3), search.decode(log_probs, 3)
    assert [hypothesis.text for hypothesis in ours] == [each.text for each in theirs]
    assert [h.score for h in ours] == pytest.approx([each.score for each in theirs], abs=1e-4)
    assert [h.words for h in ours] == [each.words for each in theirs]


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
def test_speech_in_chunks_equals_offline(
    searches: list[CharacterSearch], recognizer: Recognizer, demo: np.ndarray, chunk: int
) -> None:
    log_probs = recognizer.acoustic.forward(recognizer.logmel(demo[:80_000])).characters
    for search in searches:
        check(search, log_probs, chunk)
        assert search.decode(log_probs)[0].text


@pytest.mark.parametrize("seed", range(10))
def test_noise_in_chunks_equals_offline(searches: list[CharacterSearch], seed: int) -> None:
    log_probs = random_log_probs(20, len(CHARACTER_ALPHABET.labels), seed)
    for search in searches:
        check(search, log_probs, 3)


def test_a_name_outside_every_vocabulary_is_spelled(searches: list[CharacterSearch]) -> None:
    path = [t for token in CHARACTER_ALPHABET.ids("zyxwab") for t in (token, 0)]
    log_probs = np.full((len(path), len(CHARACTER_ALPHABET.labels)), -12.0, np.float32)
    log_probs[range(len(path)), path] = -1e-3
    for search in searches:
        assert search.decode(log_probs)[0].text == "zyxwab"
