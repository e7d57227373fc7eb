"""A stream that goes on with another recognizer, where nobody can tell."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from streamasr.change_over import change_over, is_between_utterances
from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.events import Event, Final
from streamasr.recognizer import Recognizer, Stream

PIECE_SAMPLES = 2_560  # what the engine does in one turn


@pytest.fixture(scope="module")
def another_restless() -> Recognizer:
    """A second one whose network hears silence, too."""
    return Recognizer.load(ModelConfig(rest=False), DecoderConfig(), EndpointConfig())


def pieces(samples: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(samples), PIECE_SAMPLES):
        yield samples[first : first + PIECE_SAMPLES]


def hear(stream: Stream, samples: np.ndarray) -> list[Event]:
    events = [event for piece in pieces(samples) for event in stream.feed(piece)]
    return [*events, *stream.finish()]


def moved_whenever_possible(
    recognizers: tuple[Recognizer, Recognizer], samples: np.ndarray
) -> tuple[list[Event], int]:
    """What is heard by a stream that goes to and fro, and how often it went."""
    stream = recognizers[0].stream()
    events: list[Event] = []
    moves = 0
    for piece in pieces(samples):
        events += stream.feed(piece)
        if is_between_utterances(stream.state):
            moves += 1
            other = recognizers[moves % 2].stream()
            change_over(stream, other)
            assert other.state == stream.state
            stream = other
    return [*events, *stream.finish()], moves


def test_the_state_is_the_same_after_a_move(
    recognizer: Recognizer, another_recognizer: Recognizer, demo: np.ndarray
) -> None:
    events, moves = moved_whenever_possible((recognizer, another_recognizer), demo)
    assert moves > 5
    assert events == hear(recognizer.stream(), demo)
    assert sum(isinstance(event, Final) for event in events) > 1


def test_so_it_is_where_the_network_never_rests(
    restless: Recognizer, another_restless: Recognizer, demo: np.ndarray
) -> None:
    events, moves = moved_whenever_possible((restless, another_restless), demo)
    assert moves > 1
    assert events == hear(restless.stream(), demo)


def test_an_utterance_in_progress_is_not_between_utterances(
    recognizer: Recognizer, demo: np.ndarray
) -> None:
    stream = recognizer.stream()
    for piece in pieces(demo):
        stream.feed(piece)
        if stream.state.speech_started:
            assert not is_between_utterances(stream.state)


def test_a_finished_stream_stays_finished(
    recognizer: Recognizer, another_recognizer: Recognizer
) -> None:
    stream, other = recognizer.stream(), another_recognizer.stream()
    stream.finish()
    change_over(stream, other)
    assert other.state == stream.state
    assert other.finish() == []


def test_with_other_features_the_clock_goes_on(
    recognizer: Recognizer,
    another_recognizer: Recognizer,
    demo: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pre-roll is of no use then; what was not heard yet is."""
    features = replace(another_recognizer.features, floor=2e-6)
    monkeypatch.setattr(another_recognizer, "features", features)
    whole = [event for event in hear(recognizer.stream(), demo) if isinstance(event, Final)]
    stream, other = recognizer.stream(), another_recognizer.stream()
    heard: list[Event] = []
    fed = iter(pieces(demo))
    for piece in fed:
        heard += stream.feed(piece)
        if heard and isinstance(heard[-1], Final) and stream.state.is_resting:
            break
    change_over(stream, other)
    assert other.state.preroll == ()
    assert other.state.fed_samples == stream.state.fed_samples
    assert len(other.state.samples) == len(stream.state.samples)
    for piece in fed:
        heard += other.feed(piece)
    finals = [event for event in [*heard, *other.finish()] if isinstance(event, Final)]
    assert [final.utterance for final in finals] == [final.utterance for final in whole]
    assert finals[-1].end_seconds == pytest.approx(whole[-1].end_seconds, abs=0.2)
