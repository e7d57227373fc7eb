"""Chunk by chunk equals the whole, on 200 recordings of people: every chunking, both searches."""

from pathlib import Path

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoder.hypothesis import LogProbs
from streamasr.recognizer import Recognizer
from streamasr.training.manifest import read_manifest, read_samples

DEV = Path(__file__).parents[2] / "shared" / "speech" / "librispeech" / "dev.tsv"
COUNT = 200
CHUNKS = (1, 2, 3, 4, 5, 7, 16, 64)

pytestmark = [
    pytest.mark.skipif(not DEV.exists(), reason="no shared dev recordings here"),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def beginnings() -> list[tuple[LogProbs, LogProbs]]:
    """Log-probabilities of phones and characters of the first two seconds of 200 recordings."""
    recognizer = Recognizer.load(ModelConfig(), DecoderConfig(), EndpointConfig())
    heard = []
    for recording in read_manifest(DEV).recordings[:COUNT]:
        samples = read_samples(recording.path, 16_000)[: 2 * 16_000]
        log_probs = recognizer.acoustic.forward(recognizer.logmel(samples))
        heard.append((log_probs.phones, log_probs.characters))
    assert len(heard) == COUNT
    return heard


def split(log_probs: LogProbs, number: int) -> list[LogProbs]:
    """In chunks of one size of ``CHUNKS``, or of random sizes."""
    choice = number % (len(CHUNKS) + 1)
    if choice < len(CHUNKS):
        places = np.arange(CHUNKS[choice], len(log_probs), CHUNKS[choice])
    else:
        places = np.sort(np.random.default_rng(number).integers(0, len(log_probs), 6))
    return np.split(log_probs, places)


@pytest.mark.parametrize("units", ["phones", "characters"])
def test_chunks_equal_the_whole(beginnings: list[tuple[LogProbs, LogProbs]], units: str) -> None:
    """For characters the whole is pyctcdecode's own offline call."""
    beam_size = 100 if units == "phones" else 16
    recognizer = Recognizer.load(
        ModelConfig(units=units), DecoderConfig(beam_size=beam_size), EndpointConfig()
    )
    tolerance = 1e-9 if units == "phones" else 1e-5  # pyctcdecode adds up float32
    search, words = recognizer.search, 0
    for number, both in enumerate(beginnings):
        log_probs = both[units == "characters"]
        beam = search.start()
        for chunk in split(log_probs, number):
            beam = search.advance(beam, chunk)
        whole = search.decode(log_probs, 3)
        found = search.finish(beam, 3)
        assert [reading.text for reading in found] == [reading.text for reading in whole]
        assert [reading.score for reading in found] == pytest.approx(
            [reading.score for reading in whole], abs=tolerance
        )
        words += len(found[0].words)
    assert words > COUNT
