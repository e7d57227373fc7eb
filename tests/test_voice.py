"""Resting while nobody speaks, and waking in time."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.errors import CheckpointError
from streamasr.events import Event, Final, Partial, SpeechStarted
from streamasr.frontend.noise_floor import NoiseFloor
from streamasr.frontend.voice import WINDOW_SAMPLES, VoiceDetector
from streamasr.recognizer import (
    CHUNK_FRAMES,
    PREROLL_CHUNKS,
    REST_SECONDS,
    VOICE_PROBABILITY,
    Recognizer,
    Samples,
)

RATE_HZ = 16_000
SENTENCE_SAMPLES = 6 * RATE_HZ
CHUNK_SAMPLES = 2560


def room(seconds: float, level: float = 1e-3) -> Samples:
    """The faint noise of a room."""
    noise = np.random.default_rng(3).standard_normal(round(seconds * RATE_HZ))
    return (level * noise).astype(np.float32)


def whole_windows(samples: Samples) -> Samples:
    return samples[: len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES]


def finals(events: Sequence[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def hear(recognizer: Recognizer, *parts: Samples) -> list[Final]:
    stream = recognizer.stream()
    events = [event for part in parts for event in stream.feed(part)]
    return finals([*events, *stream.finish()])


def test_a_voice_is_told_from_a_room(demo: Samples) -> None:
    detector = VoiceDetector()
    for nobody in (np.zeros(4 * RATE_HZ, np.float32), room(4), room(4, level=0.1)):
        probabilities, _ = detector.step(whole_windows(nobody), detector.start())
        assert np.max(probabilities) < VOICE_PROBABILITY
    sentence = whole_windows(demo[:SENTENCE_SAMPLES])
    probabilities, _ = detector.step(sentence, detector.start())
    assert probabilities.shape == (len(sentence) // WINDOW_SAMPLES,)
    assert np.mean(probabilities > 0.9) > 0.5


def test_the_detector_remembers_only_its_state(demo: Samples) -> None:
    detector = VoiceDetector()
    sentence = whole_windows(demo[:SENTENCE_SAMPLES])
    at_once, end = detector.step(sentence, detector.start())
    state, one_by_one = detector.start(), []
    for window in sentence.reshape(-1, WINDOW_SAMPLES):
        probability, state = detector.step(window, state)
        one_by_one.extend(probability)
    assert np.array_equal(at_once, one_by_one)
    assert state == end
    assert state != detector.start()


def test_a_stream_rests_where_nobody_speaks(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.feed(np.zeros(RATE_HZ, np.float32))
    before = stream.state
    assert before.is_resting
    assert stream.feed(room(5)) == []
    after = stream.state
    assert after.is_resting
    assert after.network == before.network
    assert after.beam.steps == 0
    assert len(after.preroll) == PREROLL_CHUNKS


def test_a_stream_that_has_spoken_rests_again(recognizer: Recognizer, demo: Samples) -> None:
    stream = recognizer.stream()
    resting: list[bool] = []
    spoken = np.concatenate([room(3), demo[:SENTENCE_SAMPLES], room(5)])
    for first in range(0, len(spoken), recognizer.chunk_samples):
        events = stream.feed(spoken[first : first + recognizer.chunk_samples])
        resting.append(stream.state.is_resting)
        if any(isinstance(event, SpeechStarted | Partial) for event in events):
            assert not stream.state.is_resting
    changes = [then for now, then in pairwise(resting) if now != then]
    assert changes == [False, True]


@pytest.mark.parametrize("rest_seconds", [0.0, 0.4, 1.7, 30.0])
def test_the_first_word_after_a_rest_is_whole(
    recognizer: Recognizer, demo: Samples, rest_seconds: float
) -> None:
    (final,) = hear(recognizer, room(rest_seconds), demo[:SENTENCE_SAMPLES], room(2))
    assert final.text.startswith("good morning")
    (undelayed,) = hear(recognizer, demo[:SENTENCE_SAMPLES], room(2))
    assert final.text == undelayed.text
    moved = final.words[0].start_seconds - undelayed.words[0].start_seconds
    assert moved == pytest.approx(rest_seconds, abs=recognizer.chunk_samples / RATE_HZ)


def test_resting_changes_no_word(
    recognizer: Recognizer, restless: Recognizer, demo: Samples
) -> None:
    parts = (room(2.5), demo[: 2 * SENTENCE_SAMPLES], room(4), demo[:SENTENCE_SAMPLES], room(4))
    rested, awake = hear(recognizer, *parts), hear(restless, *parts)
    assert [final.text for final in rested] == [final.text for final in awake]
    step = pytest.approx(0, abs=2 * recognizer.step_seconds)
    for one, other in zip(rested, awake, strict=True):
        for word, same in zip(one.words, other.words, strict=True):
            assert word.start_seconds - same.start_seconds == step
            assert word.end_seconds - same.end_seconds == step


def test_the_detector_rests_where_nothing_is_louder_than_the_room(
    recognizer: Recognizer, demo: Samples
) -> None:
    stream = recognizer.stream()
    stream.feed(room(30))  # a stream that knows the room
    before = stream.state
    stream.feed(room(3))
    assert stream.state.voice is before.voice
    assert stream.state.missed_chunks == PREROLL_CHUNKS + 1
    stream.feed(demo[:RATE_HZ])
    assert stream.state.missed_chunks == 0
    assert not stream.state.is_resting


def louder(*parts: Samples) -> list[bool]:
    """For each chunk of 160 ms whether it is louder than what came before."""
    floor, told = NoiseFloor(), []
    samples = np.concatenate(parts)
    for chunk in samples[: len(samples) // CHUNK_SAMPLES * CHUNK_SAMPLES].reshape(
        -1, CHUNK_SAMPLES
    ):
        floor, is_louder = floor.hear(chunk)
        told.append(is_louder)
    return told


def hum(seconds: float, level: float = 0.1) -> Samples:
    """Of the mains, with two overtones."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * hz * times) / number for number, hz in enumerate((50, 100), 1))
    return (level * tones).astype(np.float32) + 0.1  # and a converter that is off centre


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-2, 0.1])
def test_a_room_is_not_louder_than_itself(level: float) -> None:
    told = louder(room(60, level))
    assert not any(told[len(told) // 2 :])


@pytest.mark.parametrize("background", [room(60), room(60, 2e-3), room(60) + hum(60)])
def test_a_voice_is_louder_than_the_room(demo: Samples, background: Samples) -> None:
    """Speech of -46 dB of full scale, less than the hum has."""
    quiet_voice = demo[:SENTENCE_SAMPLES] * np.float32(0.005 / np.std(demo[:SENTENCE_SAMPLES]))
    spoken = background[: len(quiet_voice)] + quiet_voice
    told = louder(background, spoken)[len(background) // CHUNK_SAMPLES :]
    begins = int(np.argmax(np.abs(quiet_voice) > 0.1 * np.max(quiet_voice))) // CHUNK_SAMPLES
    assert any(told[begins : begins + 2])
    assert np.mean(told) > 0.3


def test_the_floor_follows_a_room_that_becomes_louder() -> None:
    told = louder(room(30), room(60, 1e-2))
    assert any(told[30 * RATE_HZ // CHUNK_SAMPLES :])
    assert not any(told[60 * RATE_HZ // CHUNK_SAMPLES :])


def test_the_end_of_a_noise_hides_no_voice(demo: Samples) -> None:
    """Who speaks when the kettle falls silent is louder than the room that comes to light."""
    noise = room(30, 0.03)
    quiet_voice = demo[:SENTENCE_SAMPLES] * np.float32(0.003 / np.std(demo[:SENTENCE_SAMPLES]))
    begins = int(np.argmax(np.abs(quiet_voice) > 0.1 * np.max(quiet_voice)))
    told = louder(noise[: len(noise) // CHUNK_SAMPLES * CHUNK_SAMPLES], quiet_voice[begins:])
    assert told[len(noise) // CHUNK_SAMPLES]


def test_a_word_alone_is_not_lost_in_the_rest_that_follows(demo: Samples) -> None:
    """Characters show a word when the next begins; after the last one comes only quiet."""
    spelling = Recognizer.load(ModelConfig(units="characters"), DecoderConfig(), EndpointConfig())
    words = [word for final in hear(spelling, demo[:SENTENCE_SAMPLES]) for word in final.words]
    for word in words[:3]:
        first, end = round(RATE_HZ * word.start_seconds), round(RATE_HZ * word.end_seconds)
        (final,) = hear(spelling, room(2), demo[first:end], room(4))
        assert final.end_reason == "silence"


def test_who_never_rests_has_no_detector(restless: Recognizer) -> None:
    stream = restless.stream()
    stream.feed(room(3))
    assert stream.state.voice is None
    assert not stream.state.is_resting
    assert stream.state.beam.steps > 0


def test_other_features_cannot_rest(tmp_path: Path) -> None:
    shipped_one = load_checkpoint(shipped("checkpoints", "english.safetensors"))
    faster = replace(shipped_one, features=replace(shipped_one.features, hop_samples=100))
    faster.save(tmp_path / "faster.safetensors")
    model = ModelConfig(checkpoint=tmp_path / "faster.safetensors")
    with pytest.raises(CheckpointError, match="rest = false"):
        Recognizer.load(model, DecoderConfig(), EndpointConfig())
    awake = Recognizer.load(replace(model, rest=False), DecoderConfig(), EndpointConfig())
    assert awake.stream().feed(room(1)) == []


def test_a_stream_may_end_while_it_rests(recognizer: Recognizer, demo: Samples) -> None:
    stream = recognizer.stream()
    stream.feed(room(4))
    assert stream.finalize() == []
    assert stream.state.fed_samples == 4 * RATE_HZ
    events = stream.feed(np.concatenate([demo[:SENTENCE_SAMPLES], room(4)]))
    (final,) = finals(events)
    assert final.words[0].start_seconds > 4.0
    assert stream.state.is_resting
    assert finals(stream.finish()) == []


def test_what_was_heard_before_a_voice_is_not_kept_for_long(recognizer: Recognizer) -> None:
    """The state of a resting stream stays small, however long the night."""
    stream = recognizer.stream()
    stream.feed(room(60))
    state = stream.state
    assert len(state.preroll) == PREROLL_CHUNKS
    span = recognizer.logmel.samples_for(CHUNK_FRAMES)
    assert all(samples.shape == (span,) and samples.base is None for samples in state.preroll)
    assert PREROLL_CHUNKS * recognizer.chunk_samples / RATE_HZ < REST_SECONDS
