"""What a client reads is what the server's encoder wrote, and newer servers are understood."""

import json

import pytest

from streamasr.errors import ProtocolError
from streamasr.events import Alternative, Final, Partial, SpeechStarted, Word
from streamasr.wire import native
from streamasr.wire.native_reader import (
    CLOSE,
    FINALIZE,
    KEEPALIVE,
    MUTE,
    UNMUTE,
    Finalized,
    Hello,
    Received,
    Resumed,
    ServerError,
    Status,
    Unknown,
    encode_authenticate,
    encode_config,
    encode_resume,
    read_message,
)

WORDS = (Word("play", 0.125, 0.5, 0.9876), Word("kind", 0.5, 1.0, 1.0))
EVENTS = (
    SpeechStarted(3, 0.08),
    Partial(3, "play kind", "play", 0.125, 1.0, WORDS),
    Final(3, "play kind", 0.125, 1.0, WORDS, 0.9, (Alternative("lay", 0.1),), "length", "length"),
    Final(4, "of", 1.0, 1.25, (), 0.5, (), "eof"),
)


def message(message_type: str, **fields: object) -> str:
    return json.dumps({"type": message_type, "session": "s", "seq": 7} | fields)


def test_events_come_back_as_they_were() -> None:
    encoder = native.Encoder("s1")
    received = [read_message(encoder.encode_event(event)) for event in EVENTS]
    assert received == [Received("s1", number + 1, event) for number, event in enumerate(EVENTS)]


def test_a_partial_without_words() -> None:
    encoder = native.Encoder("s1", words=False)
    assert read_message(encoder.encode_event(EVENTS[1])).message == Partial(
        3, "play kind", "play", 0.125, 1.0, ()
    )


def test_the_encoders_other_messages() -> None:
    encoder = native.Encoder("s1")
    assert read_message(encoder.encode_finalized()).message == Finalized()
    error = ProtocolError("too_slow", "read faster", fatal=True)
    read = read_message(encoder.encode_error(error)).message
    assert read == ServerError("too_slow", "read faster", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            message("hello", protocol=1, model="m", languages=["en", "de"], sample_rate=16_000),
            Hello(1, "m", ("en", "de"), 16_000, None),
        ),
        (
            message(
                "hello", protocol=1, model="m", languages=[], sample_rate=8_000, resume_token="t"
            ),
            Hello(1, "m", (), 8_000, "t"),
        ),
        (
            message("hello", protocol=1, model="m", languages=[], sample_rate=8_000, can_mute=True),
            Hello(1, "m", (), 8_000, None, can_mute=True),
        ),
        (message("status", microphone="lost", lag_ms=1, dropped_ms=2), Status("lost", 1, 2)),
        (
            message("status", microphone="ok", lag_ms=1, dropped_ms=2, audio_seconds=3, received=4),
            Status("ok", 1, 2, 3.0, 4),
        ),
        (message("resumed", received=5), Resumed(5)),
        (message("finalized", mood="good"), Finalized()),
        (message("applause", loud=True), Unknown("applause")),
    ],
)
def test_other_messages(text: str, expected: object) -> None:
    assert read_message(text) == Received("s", 7, expected)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"\0\0", "bad_message"),
        ("{", "bad_json"),
        ("[" * 100_000, "bad_json"),
        ("[]", "bad_message"),
        ('{"session": "s", "seq": 1}', "bad_message"),
        ('{"type": "finalized", "session": "s"}', "bad_message"),
        ('{"type": "finalized", "session": 1, "seq": 1}', "bad_value"),
        (message("resumed"), "bad_message"),
        (message("resumed", received=True), "bad_value"),
        (message("resumed", received=1.0), "bad_value"),
        (message("speech_started", utterance=0, start="0"), "bad_value"),
        (message("speech_started", utterance=0, start=10**400), "bad_value"),
        (message("speech_started", utterance=0, start=float("nan")), "bad_json"),
        (message("speech_started", utterance=0, start=0).replace("0}", "1e999}"), "bad_value"),
        (message("error", code="x", message="y", fatal=1), "bad_value"),
        (
            message("hello", protocol=1, model="m", languages="en", sample_rate=1),
            "bad_value",
        ),
        (
            message(
                "partial", utterance=0, text="", stable_text="", start=0, end=0, words=["play"]
            ),
            "bad_value",
        ),
    ],
)
def test_malformed_messages(text: str | bytes, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_message(text)
    assert caught.value.code == code
    assert len(str(caught.value)) < 150


def test_commands_are_those_that_the_server_reads() -> None:
    config = encode_config({"sample_rate": 8_000, "hotwords": [{"phrase": "Zoë"}]})
    assert native.parse_message(config) == native.Config(
        sample_rate_hz=8_000, hotwords={"Zoë": None}
    )
    assert native.parse_message(FINALIZE) == native.Finalize()
    assert native.parse_message(KEEPALIVE) == native.KeepAlive()
    assert native.parse_message(MUTE) == native.Mute()
    assert native.parse_message(UNMUTE) == native.Unmute()
    assert native.parse_message(CLOSE) == native.Close()
    assert json.loads(encode_authenticate("secret")) == {"type": "authenticate", "token": "secret"}
    assert json.loads(encode_resume("t1", 12)) == {
        "type": "resume",
        "resume_token": "t1",
        "after_seq": 12,
    }
