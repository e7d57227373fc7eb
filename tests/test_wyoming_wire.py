"""Wyoming's messages, against the client library that Home Assistant uses."""

import asyncio
import io
import json
import warnings

import pytest

from streamasr.errors import ProtocolError
from streamasr.events import Final, Partial, SpeechStarted, StreamEnded
from streamasr.wire import wyoming as wire
from streamasr.wire.wyoming import (
    MAX_DATA_BYTES,
    MAX_HEADER_BYTES,
    AudioChunk,
    AudioStart,
    AudioStop,
    Command,
    Describe,
    Message,
    MessageReader,
    Ping,
    Transcribe,
    Transcript,
    command_of,
    encode,
)

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    from wyoming import asr, audio, info, ping, vad
    from wyoming import error as wyoming_error
    from wyoming.event import Event, async_read_event, read_event, write_event

FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


def read(data: bytes, max_payload_bytes: int = 1 << 20) -> list[Message]:
    return list(MessageReader(max_payload_bytes).feed(data))


def refused(data: bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as refusal:
        read(data)
    return refusal.value


def theirs(data: bytes) -> list[Event]:
    """What the client library reads."""
    stream = io.BytesIO(data)
    return list(iter(lambda: read_event(stream), None))


def written_by_theirs(event: Event) -> bytes:
    stream = io.BytesIO()
    write_event(event, stream)
    return stream.getvalue()


def partial(text: str, stable_text: str) -> Partial:
    return Partial(0, text, stable_text, 0.5, 1.0, ())


def final(text: str, end_seconds: float = 1.5) -> Final:
    return Final(0, text, 0.5, end_seconds, (), 0.9, (), "silence")


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (info.Describe().event(), Describe()),
        (asr.Transcribe().event(), Transcribe(None)),
        (asr.Transcribe(name="x", language="en-GB").event(), Transcribe("en-GB")),
        (audio.AudioStart(16_000, 2, 1).event(), AudioStart(16_000, 2, 1)),
        (audio.AudioChunk(8_000, 2, 2, b"abcd", 20).event(), AudioChunk(8_000, 2, 2, b"abcd")),
        (audio.AudioChunk(16_000, 2, 1, b"").event(), AudioChunk(16_000, 2, 1, b"")),
        (audio.AudioStop(timestamp=5).event(), AudioStop()),
        (ping.Ping("über").event(), Ping("über")),
        (ping.Ping().event(), Ping(None)),
        (Event("run-pipeline", {"rate": "x"}), None),
    ],
)
def test_what_the_client_library_writes_is_understood(
    event: Event, command: Command | None
) -> None:
    (message,) = read(written_by_theirs(event))
    assert command_of(message) == command


@pytest.mark.parametrize("language", ["", "en", "EN", "en-US", "en_GB", None])
def test_english_is_spoken(language: str | None) -> None:
    assert command_of(Message("transcribe", {"language": language})) == Transcribe(language)


@pytest.mark.parametrize("language", ["de", "english", "e", "-en", "ena-US"])
def test_other_languages_are_refused_by_name(language: str) -> None:
    with pytest.raises(ProtocolError, match=repr(language)) as refusal:
        command_of(Message("transcribe", {"language": language}))
    assert (refusal.value.code, refusal.value.fatal) == ("unsupported", True)


@pytest.mark.parametrize(
    ("message_type", "data", "says"),
    [
        ("audio-start", {}, "audio-start.rate must be a whole number in 8000..192000, not None"),
        ("audio-start", FORMAT | {"rate": 7_999}, "8000..192000"),
        ("audio-start", FORMAT | {"rate": True}, "audio-start.rate"),
        ("audio-chunk", FORMAT | {"rate": 16_000.0}, "audio-chunk.rate"),
        ("audio-chunk", FORMAT | {"width": 4}, "must be 2 (send 16-bit samples), not 4"),
        ("audio-chunk", FORMAT | {"width": None}, "16-bit"),
        ("audio-chunk", FORMAT | {"channels": 0}, "1..8"),
        ("audio-chunk", FORMAT | {"channels": True}, "audio-chunk.channels"),
        ("audio-chunk", FORMAT | {"channels": [1]}, "audio-chunk.channels"),
        ("transcribe", {"language": 3}, "transcribe.language must be a text"),
        ("ping", {"text": {}}, "ping.text must be a text"),
    ],
)
def test_bad_values_name_what_they_must_be(
    message_type: str, data: dict[str, object], says: str
) -> None:
    with pytest.raises(ProtocolError) as refusal:
        command_of(Message(message_type, data))
    assert says in str(refusal.value)
    assert (refusal.value.code, refusal.value.fatal) == ("bad_value", True)


def test_data_is_merged_over_the_data_in_the_header() -> None:
    data = b'{"b": 3, "c": 4}'
    header = {"type": "x", "data": {"a": 1, "b": 2}, "data_length": len(data)}
    assert read(json.dumps(header).encode() + b"\n" + data) == [
        Message("x", {"a": 1, "b": 3, "c": 4})
    ]


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"data": None, "data_length": None, "payload_length": None},
        {"data": {}, "data_length": 0, "payload_length": 0, "version": 3, "more": []},
    ],
)
def test_what_is_missing_is_empty(header: dict[str, object]) -> None:
    line = json.dumps({"type": "x"} | header).encode() + b"\r\n"
    assert read(line + line) == [Message("x"), Message("x")]


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"\n", "bad_json", "not JSON"),
        (b"GET / HTTP/1.1\r\n", "bad_json", "not JSON"),
        (b'{"type": "\xff"}\n', "bad_json", "UTF-8"),
        (b"\xff\xfe{\x00}\x00\n", "bad_json", "UTF-8"),
        (b'{"type": "x", "data": {"a": NaN}}\n', "bad_json", "NaN"),
        (b"[" * 60_000 + b"\n", "bad_json", "not JSON"),
        (b"[]\n", "bad_message", "object"),
        (b"{}\n", "bad_message", '"type"'),
        (b'{"type": 1}\n', "bad_message", '"type"'),
        (b'{"type": "x", "data": []}\n', "bad_value", "data must be an object"),
        (b'{"type": "x", "data_length": -1}\n', "bad_value", "data_length"),
        (b'{"type": "x", "data_length": true}\n', "bad_value", "data_length"),
        (b'{"type": "x", "data_length": 2.0}\n', "bad_value", "data_length"),
        (b'{"type": "x", "payload_length": "2"}\n', "bad_value", "payload_length"),
        (b'{"type": "x", "payload_length": 1e999}\n', "bad_value", "payload_length"),
        (b'{"type": "x", "data_length": 2}\n[]', "bad_message", "object"),
        (b'{"type": "x", "data_length": 2}\n{]', "bad_json", "not JSON"),
        (b'{"type": "x", "data_length": 12}\n{"a": -1e9}\xff', "bad_json", "UTF-8"),
    ],
)
def test_refusals_are_coded_and_end_the_connection(data: bytes, code: str, says: str) -> None:
    error = refused(data)
    assert (error.code, error.fatal) == (code, True)
    assert says in str(error)
    assert len(str(error)) < 200


def test_a_message_too_big_is_refused_as_soon_as_it_is_announced() -> None:
    longest = b'{"type": "x"}'.ljust(MAX_HEADER_BYTES)
    reader = MessageReader(max_payload_bytes=10)
    assert list(reader.feed(longest)) == []
    assert list(reader.feed(b"\n")) == [Message("x")]
    assert list(reader.feed(longest)) == []
    with pytest.raises(ProtocolError, match="65536 bytes"):
        list(reader.feed(b" "))
    for data in (
        longest + b" ",
        b'{"type": "x", "data_length": %d}\n' % (MAX_DATA_BYTES + 1),
        b'{"type": "x", "payload_length": %d}\n' % ((1 << 20) + 1),
        b'{"type": "x", "payload_length": 1%s}\n' % (b"0" * 4_000),
    ):
        assert refused(data).code == "message_too_big"


def test_the_longest_data_and_payload_are_taken() -> None:
    longest = b"{}".ljust(MAX_DATA_BYTES)
    header = b'{"type": "x", "data_length": %d, "payload_length": 10}\n' % len(longest)
    assert read(header + longest + b"0123456789", max_payload_bytes=10) == [
        Message("x", {}, b"0123456789")
    ]


def test_what_came_before_a_bad_message_is_not_lost() -> None:
    reader = MessageReader(10)
    messages = reader.feed(encode(Message("describe")) + encode(Message("ping")) + b"{\n more")
    assert [next(messages).type, next(messages).type] == ["describe", "ping"]
    with pytest.raises(ProtocolError, match="not JSON"):
        next(messages)
    with pytest.raises(ProtocolError, match="not JSON"):
        list(reader.feed(encode(Message("describe"))))


@pytest.mark.timeout(20)
def test_small_pieces_of_a_big_message_cost_no_more_than_their_bytes() -> None:
    # A copy of all that waits for every piece would make this 10^12 bytes.
    payload = bytes(8 << 20)
    reader = MessageReader(len(payload))
    message = encode(Message("audio-chunk", FORMAT, payload))
    found = [
        each for at in range(0, len(message), 32) for each in reader.feed(message[at : at + 32])
    ]
    assert found == [Message("audio-chunk", FORMAT, payload)]


@pytest.mark.timeout(20)
def test_many_small_messages_at_once_cost_no_more_than_their_bytes() -> None:
    count = 100_000
    assert len(read(encode(Message("describe")) * count)) == count


async def test_the_asynchronous_client_reads_what_is_written() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(encode(Message("pong", {"text": "ü"}, b"abc")) + encode(Message("info")))
    reader.feed_eof()
    assert await async_read_event(reader) == Event("pong", {"text": "ü"}, b"abc")
    assert await async_read_event(reader) == Event("info", {}, None)
    assert await async_read_event(reader) is None


def test_info_is_what_home_assistant_asks_for() -> None:
    (event,) = theirs(wire.info(model="gru", version="1.2.3"))
    described = info.Info.from_event(event)
    (program,) = described.asr
    assert (program.name, program.version, program.installed) == ("streamasr", "1.2.3", True)
    assert program.supports_transcript_streaming
    (model,) = program.models
    assert (model.name, model.languages, model.installed) == ("gru", ["en"], True)
    assert model.attribution.name == program.attribution.name == "streamasr"
    for service in ("tts", "handle", "intent", "wake", "mic", "snd"):
        assert event.data[service] == []


def test_errors_and_pongs() -> None:
    error = ProtocolError("unsupported", "speak English", fatal=True)
    (event,) = theirs(wire.error(error))
    assert wyoming_error.Error.from_event(event) == wyoming_error.Error(
        "speak English", "unsupported"
    )
    (event,) = theirs(wire.pong("hier"))
    assert ping.Pong.from_event(event) == ping.Pong("hier")
    (event,) = theirs(wire.pong(None))
    assert ping.Pong.from_event(event) == ping.Pong(None)


def test_half_a_surrogate_pair_comes_back_in_a_pong() -> None:
    (message,) = read(wire.pong("\ud800"))
    assert message.data == {"text": "\ud800"}


def test_a_transcript_as_it_grows() -> None:
    transcript = Transcript()
    said = transcript.hear([SpeechStarted(0, 0.5004), partial("play kin", "")])
    assert said == [encode(Message("voice-started", {"timestamp": 500}))]
    said = transcript.hear([partial("play kind of", "play"), partial("play kind of", "play")])
    said += transcript.hear([partial("play kind of blue", "play kind of")])
    said += transcript.hear([final("play kind of blue", 2.5), SpeechStarted(1, 3.0)])
    said += transcript.hear([final("by miles davis", 4.0), StreamEnded(5.0)])
    said += transcript.end()
    events = [(event.type, event.data) for event in theirs(b"".join(said))]
    assert events == [
        ("transcript-start", {"language": "en"}),
        ("transcript-chunk", {"text": "play"}),
        ("transcript-chunk", {"text": " kind of"}),
        ("transcript-chunk", {"text": " blue"}),
        ("voice-stopped", {"timestamp": 2_500}),
        ("voice-started", {"timestamp": 3_000}),
        ("transcript-chunk", {"text": " by miles davis"}),
        ("voice-stopped", {"timestamp": 4_000}),
        ("transcript", {"text": "play kind of blue by miles davis", "language": "en"}),
        ("transcript-stop", {}),
    ]


def test_where_nothing_was_said_the_transcript_is_empty_and_was_not_started() -> None:
    transcript = Transcript()
    assert transcript.hear([StreamEnded(1.0)]) == []
    (event,) = theirs(b"".join(transcript.end()))
    assert asr.Transcript.from_event(event) == asr.Transcript("", language="en")


def test_a_voice_that_said_no_word_starts_once_and_stops_with_the_stream() -> None:
    transcript = Transcript()
    said = transcript.hear([SpeechStarted(0, 0.5), partial("a", ""), partial("", "")])
    said += transcript.hear([SpeechStarted(0, 4.0), StreamEnded(5.0)])
    started, stopped = theirs(b"".join(said))
    assert vad.VoiceStarted.from_event(started) == vad.VoiceStarted(500)
    assert vad.VoiceStopped.from_event(stopped) == vad.VoiceStopped(5_000)


def test_what_was_committed_stands_in_the_transcript_where_no_final_came() -> None:
    transcript = Transcript()
    transcript.hear([partial("play kind", "play")])
    whole, stop = theirs(b"".join(transcript.end()))
    assert asr.Transcript.from_event(whole).text == "play"
    assert asr.TranscriptStop.is_type(stop.type)
