"""The law of a stream, on the bundled recording with the shipped models."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.errors import CheckpointError, LanguageModelError, StreamFinished
from streamasr.events import Event, Final, Partial, SpeechStarted, StreamEnded
from streamasr.frontend.resample import PcmDecoder
from streamasr.recognizer import CHUNK_FRAMES, Recognizer, Samples, Stream

RECORDINGS = Path(__file__).parent / "recordings"


@pytest.fixture(scope="module")
def samples(demo: Samples) -> Samples:
    """The first two sentences: an endpoint and a beginning after it."""
    return demo[: 12 * 16_000]


@pytest.fixture(scope="module")
def expected(recognizer: Recognizer, samples: Samples) -> list[Event]:
    return hear(recognizer, samples, [len(samples)])


def hear(recognizer: Recognizer, samples: Samples, sizes: list[int]) -> list[Event]:
    """The events of ``samples`` fed in packets of ``sizes``, the last size repeated."""
    stream = recognizer.stream()
    events: list[Event] = []
    first = 0
    for packet in range(len(samples)):
        if first >= len(samples):
            break
        size = sizes[min(packet, len(sizes) - 1)]
        events += stream.feed(samples[first : first + size])
        first += size
    return events + stream.finish()


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_the_recording_is_recognised(recognizer: Recognizer, demo: Samples) -> None:
    from streamasr.training.error_rate import ErrorRate

    said = (RECORDINGS / "demo.txt").read_text().split()
    heard = " ".join(final.text for final in finals(hear(recognizer, demo, [1600])))
    words = ErrorRate()
    words.add(said, heard.split())
    assert words.rate <= 0.15


@pytest.mark.parametrize("sizes", [[320], [1], [997, 1, 5003], [2560], [2912], [1601]])
def test_packet_sizes_cannot_be_told_from_the_events(
    recognizer: Recognizer, samples: Samples, expected: list[Event], sizes: list[int]
) -> None:
    if sizes == [1]:
        samples = samples[:32_000]
        expected = hear(recognizer, samples, [len(samples)])
    assert hear(recognizer, samples, sizes) == expected


def test_random_packets_of_bytes_give_the_same_events(
    recognizer: Recognizer, samples: Samples
) -> None:
    pcm = (samples * 32767).astype("<i2").tobytes()
    rounded = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    whole = hear(recognizer, rounded, [len(rounded)])
    draw = random.Random(0)
    for _ in range(3):
        decoder, stream = PcmDecoder("pcm_s16le", 1), recognizer.stream()
        events: list[Event] = []
        first = 0
        while first < len(pcm):
            size = draw.choice([1, 3, 640, 641, 4999, 30_011])
            events += stream.feed(decoder.decode(pcm[first : first + size]))
            first += size
        assert events + stream.finish() == whole


def test_streaming_log_probabilities_equal_offline(
    recognizer: Recognizer, samples: Samples
) -> None:
    span = recognizer.logmel.samples_for(CHUNK_FRAMES)
    state, outputs = recognizer.acoustic.start(), []
    for first in range(0, len(samples) - span, recognizer.chunk_samples):
        frames = recognizer.logmel(samples[first : first + span])
        log_probs, state = recognizer.acoustic.step(frames, state)
        outputs.append(log_probs)
    offline = recognizer.acoustic.forward(recognizer.logmel(samples))
    for head in ("phones", "characters"):
        streamed = np.concatenate([getattr(output, head) for output in outputs])
        streamed = streamed[recognizer.acoustic.lookahead_steps :]
        difference = np.abs(streamed - getattr(offline, head)[: len(streamed)])
        assert difference.max() < 1e-4


def test_a_changed_sample_changes_nothing_before_the_lookahead(
    recognizer: Recognizer, samples: Samples
) -> None:
    frames = recognizer.logmel(samples[:64_000])
    changed = frames.copy()
    changed[200] += 1
    first = 200 // recognizer.acoustic.subsampling - recognizer.acoustic.lookahead_steps
    before, after = (recognizer.acoustic.forward(each).phones for each in (frames, changed))
    np.testing.assert_array_equal(before[:first], after[:first])
    assert (before[first:] != after[first:]).any()


def test_interleaved_streams_do_not_touch_each_other(
    recognizer: Recognizer, samples: Samples, expected: list[Event]
) -> None:
    other = samples[::-1].copy()
    one, two = recognizer.stream(), recognizer.stream()
    heard_one: list[Event] = []
    heard_two: list[Event] = []
    for first in range(0, len(samples), 3200):
        heard_one += one.feed(samples[first : first + 3200])
        heard_two += two.feed(other[first : first + 3200])
    assert heard_one + one.finish() == expected
    assert heard_two + two.finish() == hear(recognizer, other, [len(other)])


def test_a_stream_can_go_on_from_a_copied_state(
    recognizer: Recognizer, samples: Samples, expected: list[Event]
) -> None:
    stream = recognizer.stream()
    before = stream.feed(samples[:50_000])
    kept = stream.state
    first_end = stream.feed(samples[50_000:]) + stream.finish()
    replayed = recognizer.stream()
    replayed.state = kept
    assert replayed.feed(samples[50_000:]) + replayed.finish() == first_end
    assert before + first_end == expected
    assert replayed.state == stream.state
    assert replayed.state != kept


def state_bytes(stream: Stream) -> int:
    state = stream.state
    preroll = sum(samples.nbytes for samples in state.preroll)
    return state.samples.nbytes + preroll + state.network.size_bytes


@pytest.mark.timeout(300)
def test_the_state_does_not_grow_in_ten_minutes(recognizer: Recognizer, samples: Samples) -> None:
    """Speech and three times as much quiet, in turn."""
    stream = recognizer.stream()
    sizes, steps = set(), []
    second = 16_000
    repeated = np.pad(np.tile(np.pad(samples, (0, 36 * second)), 12), (0, 24 * second))
    for first in range(0, len(repeated), second):
        stream.feed(repeated[first : first + second])
        if first > 4 * second:
            sizes.add(state_bytes(stream) - stream.state.samples.nbytes)
        steps.append(stream.state.beam.steps)
    assert stream.state.fed_samples == 600 * second
    assert len(sizes) == 1
    limit_seconds = EndpointConfig().utterance_seconds + 2
    assert max(steps) * recognizer.step_seconds < limit_seconds


def test_a_random_end_loses_no_last_word(recognizer: Recognizer, samples: Samples) -> None:
    """The words up to any cut are those that digital silence after the cut would show."""
    draw = random.Random(1)
    silence = np.zeros(16_000, np.float32)
    for _ in range(100):
        first = draw.randrange(0, 16_000)
        cut = samples[first : first + draw.randrange(12_000, 32_000)]
        stream = recognizer.stream()
        heard = stream.feed(cut)
        patient = recognizer.stream()
        patient.state = stream.state
        at_once = finals(heard + stream.finish())
        waited = finals(heard + patient.feed(silence) + patient.finish())
        assert [f.text for f in at_once] == [f.text for f in waited]


def test_finalize_ends_the_utterance_and_keeps_the_clock(
    recognizer: Recognizer, samples: Samples
) -> None:
    stream = recognizer.stream()
    first = finals(stream.feed(samples[:40_000]) + stream.finalize())
    rest = stream.feed(samples[40_000:]) + stream.finish()
    assert [final.end_reason for final in first] == ["finalize"]
    second = next(event for event in rest if isinstance(event, SpeechStarted))
    assert second.utterance == first[-1].utterance + 1
    assert second.start_seconds >= 2.5
    assert rest[-1] == StreamEnded(len(samples) / 16_000)


def test_finish_is_idempotent_and_closes(recognizer: Recognizer, samples: Samples) -> None:
    stream = recognizer.stream()
    stream.feed(samples[:16_000])
    assert isinstance(stream.finish()[-1], StreamEnded)
    assert stream.finish() == []
    with pytest.raises(StreamFinished):
        stream.feed(samples)
    with pytest.raises(StreamFinished):
        stream.finalize()


def test_events_follow_their_grammar(expected: list[Event]) -> None:
    """Started, partials, final, for utterances 0, 1, ...; times rise and stay in the audio."""
    kinds = [type(event) for event in expected]
    assert kinds[0] is SpeechStarted
    assert kinds[-1] is StreamEnded
    for event, after in itertools.pairwise(expected):
        if isinstance(event, Final):
            assert isinstance(after, SpeechStarted | StreamEnded)
        if isinstance(event, SpeechStarted):
            assert isinstance(after, Partial | Final)
    heard = finals(expected)
    assert [final.utterance for final in heard] == list(range(len(heard)))
    words = [word for final in heard for word in final.words]
    starts = [word.start_seconds for word in words]
    assert starts == sorted(starts)
    assert all(0 <= w.start_seconds < w.end_seconds <= 12 for w in words)
    assert all(0 <= word.confidence <= 1 for word in words)


def test_stable_text_is_never_revised(expected: list[Event]) -> None:
    stable = ""
    grew = 0
    for event in expected:
        if isinstance(event, Partial):
            assert event.text.split()[: len(stable.split())] == stable.split()
            assert event.stable_text.split()[: len(stable.split())] == stable.split()
            grew += event.stable_text != stable
            stable = event.stable_text
        elif isinstance(event, Final):
            assert event.text.split()[: len(stable.split())] == stable.split()
            stable = ""
    assert grew >= 2


def test_partials_come_at_least_twice_a_second(expected: list[Event]) -> None:
    for event, after in itertools.pairwise(expected):
        if isinstance(event, Partial) and isinstance(after, Partial):
            assert after.end_seconds - event.end_seconds <= 0.5


def test_a_long_utterance_is_cut_between_words(recognizer: Recognizer, samples: Samples) -> None:
    speech = samples[8_000 : 8_000 + 48_000]
    whole = [f.text for f in finals(hear(recognizer, speech, [len(speech)]))]
    stream = recognizer.stream(endpoint=replace(EndpointConfig(), utterance_seconds=1.0))
    cut = finals(stream.feed(speech) + stream.finish())
    assert cut[0].end_reason == "length"
    assert len(cut) > 1
    assert " ".join(f.text for f in cut).split()[:3] == " ".join(whole).split()[:3]
    starts = [word.start_seconds for final in cut for word in final.words]
    assert starts == sorted(starts)


def test_a_final_says_which_rule_ended_it(recognizer: Recognizer, samples: Samples) -> None:
    heard = finals(hear(recognizer, samples, [len(samples)]))
    assert len(heard) > 1
    assert (heard[0].end_reason, heard[0].endpoint_rule) == ("silence", "silence_after_words")
    short = recognizer.stream(endpoint=replace(EndpointConfig(), utterance_seconds=1.0))
    first = finals(short.feed(samples[:64_000]))[0]
    assert (first.end_reason, first.endpoint_rule) == ("length", "length")
    last = finals(hear(recognizer, samples[:40_000], [1600]))
    assert (last[-1].end_reason, last[-1].endpoint_rule) == ("eof", None)


def test_rules_of_a_stream_are_its_own(recognizer: Recognizer, samples: Samples) -> None:
    """A pause that ends an utterance by default does not where more silence is asked for."""
    patient = replace(EndpointConfig(), silence_after_words_seconds=3.0)
    stream = recognizer.stream(endpoint=patient)
    heard = finals(stream.feed(samples) + stream.finish())
    assert len(heard) < len(finals(hear(recognizer, samples, [len(samples)])))


def test_silence_gives_no_words(recognizer: Recognizer) -> None:
    assert finals(hear(recognizer, np.zeros(30 * 16_000, np.float32), [16_000])) == []


def test_alternatives_are_distinct_and_share_one(recognizer: Recognizer, samples: Samples) -> None:
    stream = recognizer.stream(max_alternatives=5)
    final = finals(stream.feed(samples[:96_000]) + stream.finish())[0]
    texts = [alternative.text for alternative in final.alternatives]
    assert texts[0] == final.text
    assert len(set(texts)) == len(texts) > 1
    assert sum(a.confidence for a in final.alternatives) == pytest.approx(1, abs=1e-3)
    assert not finals(hear_with(recognizer, samples, 0))[0].alternatives


def hear_with(recognizer: Recognizer, samples: Samples, alternatives: int) -> list[Event]:
    stream = recognizer.stream(max_alternatives=alternatives)
    return stream.feed(samples[:96_000]) + stream.finish()


def test_missing_files_are_named(tmp_path: Path) -> None:
    def load(**files: Path) -> None:
        Recognizer.load(ModelConfig(**files), DecoderConfig(), EndpointConfig())

    with pytest.raises(CheckpointError, match="does not exist"):
        load(checkpoint=tmp_path / "none.safetensors")
    with pytest.raises(LanguageModelError, match="--no-lm"):
        load(language_model=tmp_path / "none.kenlm")
    with pytest.raises(LanguageModelError, match="no lexicon"):
        load(lexicon=tmp_path / "none.txt")


def test_characters_hear_an_open_vocabulary(samples: Samples) -> None:
    recognizer = Recognizer.load(
        ModelConfig(units="characters"), DecoderConfig(beam_size=16), EndpointConfig()
    )
    whole = hear(recognizer, samples[:96_000], [96_000])
    assert hear(recognizer, samples[:96_000], [777]) == whole
    assert " ".join(final.text for final in finals(whole))
