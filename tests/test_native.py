"""The native protocol's bytes: what is written, what is accepted, what is refused and how."""

import json

import pytest

from streamasr.config import EndpointConfig
from streamasr.errors import ProtocolError
from streamasr.events import Alternative, Final, Partial, SpeechStarted, Word
from streamasr.wire.native import (
    Authenticate,
    Close,
    Config,
    Encoder,
    Finalize,
    KeepAlive,
    Mute,
    Resume,
    Unmute,
    parse_message,
)

WORDS = (Word("play", 0.12345, 0.5, 0.98765), Word("kind", 0.5, 0.9999, 1.0))


def test_every_message_carries_type_session_and_a_growing_seq() -> None:
    encoder = Encoder("s1")
    messages = [
        encoder.encode_hello(
            model="gru",
            languages=("en",),
            sample_rate_hz=16_000,
            resume_token="t",
            can_mute=True,
        ),
        encoder.encode_event(SpeechStarted(0, 0.08)),
        encoder.encode_status("ok", lag_ms=3, dropped_ms=0, audio_seconds=1.0, received=2),
        encoder.encode_error(ProtocolError("bad_json", "not JSON")),
        encoder.encode_finalized(),
    ]
    parsed = [json.loads(message) for message in messages]
    assert [message["seq"] for message in parsed] == [1, 2, 3, 4, 5]
    assert encoder.seq == 5
    assert {message["session"] for message in parsed} == {"s1"}
    assert [message["type"] for message in parsed] == [
        "hello",
        "speech_started",
        "status",
        "error",
        "finalized",
    ]


def test_hello() -> None:
    encoder = Encoder("abc")
    hello = json.loads(
        encoder.encode_hello(
            model="m",
            languages=["en"],
            sample_rate_hz=16_000,
            resume_token="secret",
            can_mute=True,
        )
    )
    assert hello == {
        "type": "hello",
        "session": "abc",
        "seq": 1,
        "protocol": 1,
        "model": "m",
        "languages": ["en"],
        "sample_rate": 16_000,
        "resume_token": "secret",
        "can_mute": True,
    }


def test_status_and_resumed() -> None:
    encoder = Encoder("s")
    status = encoder.encode_status(
        "lost", lag_ms=3, dropped_ms=4, audio_seconds=1.23456, received=7
    )
    assert json.loads(status) == {
        "type": "status",
        "session": "s",
        "seq": 1,
        "microphone": "lost",
        "lag_ms": 3,
        "dropped_ms": 4,
        "audio_seconds": 1.235,
        "received": 7,
    }
    resumed = json.loads(encoder.encode_resumed(received=8))
    assert (resumed["type"], resumed["seq"], resumed["received"]) == ("resumed", 2, 8)


def test_partial_rounds_times_to_milliseconds() -> None:
    partial = Partial(3, "play kind", "play", 0.12345, 0.9999, WORDS)
    message = json.loads(Encoder("s").encode_event(partial))
    assert message["utterance"] == 3
    assert (message["text"], message["stable_text"]) == ("play kind", "play")
    assert (message["start"], message["end"]) == (0.123, 1.0)
    assert message["words"][0] == {
        "word": "play",
        "start": 0.123,
        "end": 0.5,
        "confidence": 0.9877,
    }


def test_partial_without_words_has_no_words() -> None:
    partial = Partial(0, "play", "", 0.1, 0.5, WORDS)
    assert "words" not in json.loads(Encoder("s", words=False).encode_event(partial))


def test_final_has_every_field() -> None:
    final = Final(
        1, "play kind", 0.1, 1.0, WORDS, 0.9, (Alternative("play kine", 0.05),), "silence"
    )
    message = json.loads(Encoder("s").encode_event(final))
    assert message["end_reason"] == "silence"
    assert message["alternatives"] == [{"text": "play kine", "confidence": 0.05}]
    assert [word["word"] for word in message["words"]] == ["play", "kind"]
    assert message["confidence"] == 0.9


def test_error_says_whether_it_is_fatal() -> None:
    error = ProtocolError("too_slow", "read faster", fatal=True)
    message = json.loads(Encoder("s").encode_error(error))
    assert (message["code"], message["message"], message["fatal"]) == (
        "too_slow",
        "read faster",
        True,
    )


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type": "finalize"}', Finalize()),
        ('{"type": "keepalive"}', KeepAlive()),
        ('{"type": "mute"}', Mute()),
        ('{"type": "unmute"}', Unmute()),
        (' {"type":"close"} ', Close()),
        ('{"type": "config"}', Config()),
        ('{"type": "authenticate", "token": "a b"}', Authenticate("a b")),
        ('{"type": "resume", "resume_token": "t", "after_seq": 0}', Resume("t", 0)),
    ],
)
def test_commands(text: str, command: object) -> None:
    assert parse_message(text) == command


def test_config_reads_every_key() -> None:
    message = {
        "type": "config",
        "sample_rate": 48_000,
        "channels": 2,
        "encoding": "pcm_f32le",
        "words": False,
        "partial_interval_ms": 250,
        "max_alternatives": 3,
        "endpoint": {"silence_after_words_seconds": 0.5, "utterance_seconds": 10},
        "hotwords": [{"phrase": " tavik  morrenta", "weight": 9.5}, {"phrase": "u2"}],
        "phrases": ["turn it up", "[unk]"],
    }
    config = parse_message(json.dumps(message))
    assert config == Config(
        sample_rate_hz=48_000,
        channels=2,
        encoding="pcm_f32le",
        words=False,
        partial_interval_ms=250,
        max_alternatives=3,
        endpoint={"silence_after_words_seconds": 0.5, "utterance_seconds": 10.0},
        hotwords={"tavik morrenta": 9.5, "u2": None},
        phrases=("turn it up", "[unk]"),
    )
    assert isinstance(config, Config)
    assert config.endpoint_over(EndpointConfig(silence_without_words_seconds=9.0)) == (
        EndpointConfig(9.0, 0.5, 10.0)
    )


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "bad_json", "not JSON"),
        ("{", "bad_json", "not JSON"),
        ("x" * 100_000, "bad_json", "not JSON"),
        ("[" * 100_000, "bad_json", "not JSON"),
        ('{"type": NaN}', "bad_json", "NaN"),
        ("[]", "bad_message", "object"),
        ("7", "bad_message", "object"),
        ("{}", "bad_message", "type"),
        ('{"type": 3}', "bad_message", "type"),
        ('{"type": "finalise"}', "unknown_type", "did you mean 'finalize'"),
        ('{"type": "finalize", "now": 1}', "unknown_key", "'now' in finalize"),
        ('{"type": "unmut"}', "unknown_type", "did you mean 'unmute'"),
        ('{"type": "mute", "seconds": 5}', "unknown_key", "'seconds' in mute"),
        ('{"type": "config", "samplerate": 1}', "unknown_key", "did you mean 'sample_rate'"),
        ('{"type": "config", "sample_rate": 7999}', "bad_value", "8000..192000"),
        ('{"type": "config", "sample_rate": "16000"}', "bad_value", "config.sample_rate"),
        ('{"type": "config", "sample_rate": true}', "bad_value", "config.sample_rate"),
        ('{"type": "config", "channels": 9}', "bad_value", "1..8"),
        ('{"type": "config", "encoding": "mp3"}', "bad_value", "pcm_s16le or pcm_f32le"),
        ('{"type": "config", "words": 1}', "bad_value", "true or false"),
        ('{"type": "config", "partial_interval_ms": -1}', "bad_value", "0..10000"),
        ('{"type": "config", "max_alternatives": 11}', "bad_value", "0..10"),
        ('{"type": "config", "endpoint": []}', "bad_value", "an object"),
        (
            '{"type": "config", "endpoint": {"utterance_second": 3}}',
            "unknown_key",
            "did you mean 'utterance_seconds'",
        ),
        (
            '{"type": "config", "endpoint": {"utterance_seconds": 1e999}}',
            "bad_value",
            "0.1..60",
        ),
        ('{"type": "config", "hotwords": ["yes"]}', "bad_value", "config.hotwords[0]"),
        ('{"type": "config", "hotwords": [{"phrase": " "}]}', "bad_value", "1..200 characters"),
        ('{"type": "config", "hotwords": [{"phrase": "a", "weight": 21}]}', "bad_value", "0..20"),
        ('{"type": "config", "hotwords": [{"phrase": "a", "boost": 1}]}', "unknown_key", "boost"),
        ('{"type": "config", "phrases": "yes"}', "bad_value", "a list of at most 20000"),
        ('{"type": "config", "phrases": ["yes", 3]}', "bad_value", "config.phrases[1]"),
        ('{"type": "resume", "resume_token": "x", "after_seq": -1}', "bad_value", "after_seq"),
        ('{"type": "resume", "resume_token": 7, "after_seq": 1}', "bad_value", "resume_token"),
        ('{"type": "resume", "after_seq": 1}', "bad_value", "resume_token"),
        ('{"type": "authenticate"}', "bad_value", "authenticate.token"),
    ],
)
def test_refusals_are_coded_and_name_what_is_wrong(text: str, code: str, says: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        parse_message(text)
    assert refusal.value.code == code
    assert says in str(refusal.value)
    assert not refusal.value.fatal
    assert len(str(refusal.value)) < 200


def test_a_secret_is_never_quoted() -> None:
    for text in (
        '{"type": "authenticate", "token": ["hunter2"]}',
        '{"type": "resume", "resume_token": ["hunter2"], "after_seq": 1}',
    ):
        with pytest.raises(ProtocolError) as refusal:
            parse_message(text)
        assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(parse_message('{"type": "authenticate", "token": "hunter2"}'))
