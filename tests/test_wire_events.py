"""Whatever a stream says: Wyoming's chunks add up, and Vosk's replies say every final once."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamasr.events import Alternative, Event, Final, Partial, SpeechStarted, StreamEnded, Word
from streamasr.wire.vosk import Replies
from streamasr.wire.wyoming import MessageReader, Transcript

fuzz = settings(deadline=5_000, suppress_health_check=[HealthCheck.too_slow])

spoken_words = st.text("abcdefg'", min_size=1, max_size=6)
shares = st.floats(0, 1)


@st.composite
def utterances(draw: st.DrawFn) -> list[Event]:
    """One utterance as events.py promises it: stable texts grow and the final keeps them."""
    words = draw(st.lists(spoken_words, max_size=6))
    events: list[Event] = [SpeechStarted(0, 0.0)]
    stable = 0
    for guess in draw(st.lists(st.lists(spoken_words, max_size=3), max_size=6)):
        stable = draw(st.integers(stable, len(words)))
        stable_text, text = " ".join(words[:stable]), " ".join([*words[:stable], *guess])
        events.append(Partial(0, text, stable_text, 0.0, 1.0, ()))
    if not words:
        return [*events, Partial(0, "", "", 0.0, 1.0, ())]
    placed = tuple(Word(word, 0.1, 0.2, 0.9) for word in words)
    alternatives = tuple(
        Alternative(" ".join([*words, *more]), share)
        for more, share in draw(st.lists(st.tuples(st.lists(spoken_words), shares), max_size=3))
    )
    best = (Alternative(" ".join(words), 0.9, placed), *alternatives) if alternatives else ()
    return [*events, Final(0, " ".join(words), 0.0, 1.0, placed, 0.9, best, "silence")]


@st.composite
def batches(draw: st.DrawFn) -> list[list[Event]]:
    """A stream's events in the order of their batches; it may be cut off before its end."""
    events = [event for each in draw(st.lists(utterances(), max_size=4)) for event in each]
    events = events[: draw(st.integers(0, len(events)))] if draw(st.booleans()) else events
    events.append(StreamEnded(9.0))
    ends = sorted(draw(st.lists(st.integers(0, len(events)), max_size=6)))
    return [
        events[first:last] for first, last in zip([0, *ends], [*ends, len(events)], strict=True)
    ]


def finals_text(heard: list[list[Event]]) -> str:
    return " ".join(event.text for batch in heard for event in batch if isinstance(event, Final))


@given(heard=batches())
@fuzz
def test_chunks_add_up_to_the_transcript(heard: list[list[Event]]) -> None:
    transcript = Transcript()
    said = [message for batch in heard for message in transcript.hear(batch)] + transcript.end()
    sent = list(MessageReader(0).feed(b"".join(said)))
    types = [message.type for message in sent]
    chunks = [message.data["text"] for message in sent if message.type == "transcript-chunk"]
    (whole,) = (message.data["text"] for message in sent if message.type == "transcript")
    assert "".join(map(str, chunks)) == whole
    assert "" not in chunks
    assert str(whole).startswith(finals_text(heard))

    streamed = [each for each in types if each.startswith("transcript")]
    expected = ["transcript-chunk"] * len(chunks) + ["transcript"]
    assert streamed == (["transcript-start", *expected, "transcript-stop"] if chunks else expected)
    voices = [each for each in types if each.startswith("voice")]
    assert voices == ["voice-started", "voice-stopped"] * (len(voices) // 2)


@given(
    heard=batches(),
    words=st.booleans(),
    max_alternatives=st.integers(0, 4),
    asks=st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
@fuzz
def test_replies_say_every_final_once(
    heard: list[list[Event]], words: bool, max_alternatives: int, asks: list[int]
) -> None:
    replies = Replies(words=words, max_alternatives=max_alternatives)
    said: list[str] = []
    newest = ""
    for batch, times in zip(heard, asks, strict=False):
        replies.hear(batch)
        for event in batch:
            if isinstance(event, Partial | Final):
                newest = event.text if isinstance(event, Partial) else ""
        for _ in range(times):
            said.append(replies.audio())
            assert json.loads(said[-1]).get("partial", newest) == newest
    said.append(replies.end())
    texts: list[str] = []
    for number, reply in enumerate(map(json.loads, said)):
        if "partial" in reply:
            assert number < len(said) - 1
            assert list(reply) == ["partial"]
            continue
        assert ("alternatives" in reply) == (max_alternatives > 0)
        readings = reply["alternatives"] if max_alternatives else [reply]
        assert 1 <= len(readings) <= max(1, max_alternatives)
        for reading in readings:
            if "result" in reading:
                assert words
                assert " ".join(word["word"] for word in reading["result"]) == reading["text"]
        texts.append(readings[0]["text"])
    assert " ".join(filter(None, texts)) == finals_text(heard)
