"""Whatever peers send: only ProtocolErrors come out, and nothing depends on how bytes are split."""

import io
import json
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wyoming.event import Event as TheirMessage
from wyoming.event import read_event, write_event

from streamasr.errors import ProtocolError
from streamasr.wire import native, vosk, wyoming
from streamasr.wire.wyoming import Message, MessageReader, command_of, encode

# Slower than any honest input on a busy machine, faster than a hang.
fuzz = settings(deadline=5_000, suppress_health_check=[HealthCheck.too_slow])

MAX_PAYLOAD_BYTES = 300

# JSON is made as text: Python's writer could not spell half of it.
numbers = st.one_of(
    st.integers(),
    st.integers(0, 200_000),
    st.integers(10**18, 10**40),
    st.floats(allow_nan=True, allow_infinity=True),
)
any_text = st.one_of(st.text(), st.text(st.characters()))  # the latter has half surrogate pairs
values = st.recursive(
    st.none() | st.booleans() | numbers | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=8,
)
depths = st.one_of(st.integers(1, 30), st.integers(150, 1_100), st.just(100_000))
hostile = st.one_of(
    values.map(json.dumps),
    depths.map(lambda depth: "[" * depth + "]" * depth),
    depths.map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
    st.sampled_from(["[", '{"a":']).flatmap(lambda part: depths.map(lambda depth: part * depth)),
    st.sampled_from(
        ["1e999", "-1e999", "NaN", "-Infinity", "1" * 4_300, "9" * 5_000, "0." + "3" * 9_000]
    ),
    st.sampled_from(['"\\ud800"', '"\\u0000"', '["\\udfff"]', "", "1 2", '"' + "é" * 5_000 + '"']),
)

NATIVE = {
    "type": "config",
    "sample_rate": 48_000,
    "channels": 2,
    "encoding": "pcm_f32le",
    "words": False,
    "partial_interval_ms": 250,
    "max_alternatives": 3,
    "endpoint": {"silence_after_words_seconds": 0.5},
    "hotwords": [{"phrase": "tavik", "weight": 9.5}],
    "phrases": ["turn it up"],
}
VOSK = {
    "config": {
        "sample_rate": 16_000.0,
        "phrase_list": ["zero one", "[unk]"],
        "words": True,
        "max_alternatives": 2,
        "model": "x",
        "token": "y",
    }
}
FORMAT = {"rate": 16_000, "width": 2, "channels": 1, "timestamp": None}
WYOMING = [
    {"type": "transcribe", "data": {"name": None, "language": "en", "context": {}}},
    {"type": "audio-start", "data": FORMAT},
    {"type": "audio-chunk", "data": FORMAT, "data_length": 0, "payload_length": 0},
    {"type": "ping", "data": {"text": "x"}},
]
WORDS = (*native.COMMAND_TYPES, "type", "token", "after_seq")


def places(value: object, path: tuple[object, ...] = ()) -> Iterable[tuple[object, ...]]:
    """The path of every value in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield from places(each, (*path, key))


def with_hole(value: object, path: Sequence[object], filling: str) -> str:
    """``value`` as JSON, with ``filling`` where ``path`` leads."""
    if not path:
        return filling
    if isinstance(value, dict):
        fields = (
            f"{json.dumps(key)}: "
            + (with_hole(each, path[1:], filling) if key == path[0] else json.dumps(each))
            for key, each in value.items()
        )
        return f"{{{', '.join(fields)}}}"
    assert isinstance(value, list)
    elements = (
        with_hole(each, path[1:], filling) if number == path[0] else json.dumps(each)
        for number, each in enumerate(value)
    )
    return f"[{', '.join(elements)}]"


def spoiled(valid: object) -> st.SearchStrategy[str]:
    """The message with one of its values exchanged."""
    return st.builds(
        lambda path, filling: with_hole(valid, path, filling),
        st.sampled_from(list(places(valid))),
        hostile,
    )


def edited(text: str) -> st.SearchStrategy[str]:
    """The message with some characters deleted or inserted."""

    def edit(cuts: Sequence[tuple[int, int, str]]) -> str:
        result = text
        for at, deleted, inserted in cuts:
            result = result[:at] + inserted + result[at + deleted :]
        return result

    edits = st.tuples(st.integers(0, len(text)), st.integers(0, 9), st.text(max_size=5))
    return st.lists(edits, max_size=4).map(edit)


typed = st.builds(
    lambda word, others: json.dumps(others | {"type": word}),
    st.sampled_from(WORDS),
    st.dictionaries(st.sampled_from(WORDS) | any_text, values, max_size=3),
)
texts = st.one_of(
    any_text,
    hostile,
    typed,
    *(spoiled(valid) for valid in (NATIVE, VOSK, *WYOMING)),
    *(edited(json.dumps(valid)) for valid in (NATIVE, VOSK, *WYOMING)),
)


def check_error(error: ProtocolError, *, fatal: bool = True) -> None:
    assert error.fatal == fatal
    str(error).encode()  # it can be sent
    assert len(str(error)) < 300
    assert error.code in (
        "bad_json",
        "bad_message",
        "bad_value",
        "message_too_big",
        "unknown_key",
        "unknown_type",
        "unsupported",
    )


@pytest.mark.parametrize("parse", [native.parse_message, vosk.parse_message])
@given(text=texts)
@example(text="[" * 100_000)
@fuzz
def test_a_text_is_a_command_or_a_protocol_error(parse: Callable[[str], object], text: str) -> None:
    try:
        command = parse(text)
    except ProtocolError as error:
        check_error(error, fatal=parse is vosk.parse_message)
    else:
        for phrase in (*getattr(command, "phrases", ()), *getattr(command, "hotwords", ())):
            assert phrase.isprintable()


def parse_header(text: str) -> object:
    (message,) = MessageReader(MAX_PAYLOAD_BYTES).feed(text.encode() + b"\n")
    return command_of(message)


@pytest.mark.parametrize(
    ("parse", "around"),
    [
        (native.parse_message, '{"type": %s}'),
        (native.parse_message, '{"type": "config", "words": %s}'),
        (native.parse_message, '{"type": "config", "phrases": [%s]}'),
        (native.parse_message, '{"type": "config", "hotwords": [{"phrase": %s}]}'),
        (native.parse_message, '{"type": "config", "endpoint": {"utterance_seconds": %s}}'),
        (vosk.parse_message, '{"eof": %s}'),
        (vosk.parse_message, '{"config": {"sample_rate": %s}}'),
        (vosk.parse_message, '{"config": {"phrase_list": [%s]}}'),
        (parse_header, '{"type": "x", "data_length": %s}'),
        (parse_header, '{"type": "transcribe", "data": {"language": %s}}'),
    ],
)
def test_no_depth_overflows_the_stack(parse: Callable[[str], object], around: str) -> None:
    # The reader may just manage a depth at which the writer of the error does not.
    for depth in range(800, 1_010):
        with pytest.raises(ProtocolError):
            parse(around % ("[" * depth + "]" * depth))


def framed(header: dict[str, object], data: bytes, payload: bytes) -> bytes:
    lengths = {"data_length": len(data), "payload_length": len(payload)}
    return json.dumps(header | lengths).encode() + b"\n" + data + payload


payloads = st.binary(max_size=MAX_PAYLOAD_BYTES + 5)
frames = st.one_of(
    st.builds(
        framed,
        st.sampled_from(WYOMING),
        st.just(b"") | st.sampled_from(WYOMING).map(lambda each: json.dumps(each["data"]).encode()),
        payloads,
    ),
    st.builds(
        framed,
        st.sampled_from(WYOMING),
        texts.map(lambda text: text.encode(errors="replace")),
        payloads,
    ),
    texts.map(lambda text: text.encode(errors="surrogatepass") + b"\n"),
    st.binary(max_size=50),
)


def edited_bytes(data: bytes, cuts: Sequence[tuple[int, int, bytes]]) -> bytes:
    for at, deleted, inserted in cuts:
        at %= len(data) + 1
        data = data[:at] + inserted + data[at + deleted :]
    return data


streams = st.builds(
    edited_bytes,
    st.lists(frames, max_size=5).map(b"".join),
    st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(0, 5), st.binary(max_size=4)), max_size=2
    ),
)


def read(pieces: Iterable[bytes]) -> tuple[list[Message], str]:
    """All messages, and the error after them."""
    reader = MessageReader(MAX_PAYLOAD_BYTES)
    messages: list[Message] = []
    try:
        for piece in pieces:
            for message in reader.feed(piece):
                messages.append(message)
    except ProtocolError as error:
        check_error(error)
        return messages, f"{error.code}: {error}"
    return messages, ""


def split(data: bytes, sizes: Sequence[int]) -> Iterable[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(data=streams, sizes=st.lists(st.integers(0, 100), max_size=20))
@fuzz
def test_bytes_mean_the_same_however_they_are_split(data: bytes, sizes: list[int]) -> None:
    whole = read([data])
    assert read(split(data, sizes)) == whole
    if len(data) < 20_000:
        assert read(data[at : at + 1] for at in range(len(data))) == whole
    for message in whole[0]:
        assert len(message.payload) <= MAX_PAYLOAD_BYTES
        try:
            command_of(message)
        except ProtocolError as error:
            check_error(error)


@given(
    message_type=st.sampled_from(["transcribe", "audio-start", "audio-chunk", "ping"]) | any_text,
    data=st.dictionaries(
        st.sampled_from(["rate", "width", "channels", "language", "text"]), values
    ),
)
@fuzz
def test_a_message_is_a_command_or_nothing_or_a_protocol_error(
    message_type: str, data: dict[str, object]
) -> None:
    try:
        command_of(Message(message_type, data))
    except ProtocolError as error:
        check_error(error)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
messages = st.builds(
    Message,
    st.text(),
    st.dictionaries(st.text(), plain, max_size=4),
    st.binary(max_size=MAX_PAYLOAD_BYTES),
)


@given(sent=st.lists(messages, max_size=4), sizes=st.lists(st.integers(0, 60), max_size=20))
@fuzz
def test_what_is_written_is_read_again_by_both_sides(sent: list[Message], sizes: list[int]) -> None:
    data = b"".join(map(encode, sent))
    assert read(split(data, sizes)) == (sent, "")

    stream = io.BytesIO(data)
    theirs = list(iter(lambda: read_event(stream), None))
    assert [(each.type, each.data, each.payload or b"") for each in theirs] == [
        (each.type, each.data, each.payload) for each in sent
    ]

    written = io.BytesIO()
    for each in sent:
        write_event(TheirMessage(each.type, dict(each.data), each.payload), written)
    assert read(split(written.getvalue(), sizes)) == (sent, "")


def test_the_fuzzers_begin_with_messages_that_are_valid() -> None:
    assert isinstance(native.parse_message(json.dumps(NATIVE)), native.Config)
    assert isinstance(vosk.parse_message(json.dumps(VOSK)), vosk.Config)
    found, error = read(json.dumps(each).encode() + b"\n" for each in WYOMING)
    assert error == ""
    assert [type(command_of(message)) for message in found] == [
        wyoming.Transcribe,
        wyoming.AudioStart,
        wyoming.AudioChunk,
        wyoming.Ping,
    ]
