"""Closed phrase lists: the scorer, the filler, and what a stream that has one says."""

import math
from pathlib import Path

import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoder.expected import Expected
from streamasr.decoder.phrases import UNKNOWN, PhraseList
from streamasr.errors import ConfigError
from streamasr.events import Event, Final, Partial
from streamasr.recognizer import Recognizer, Samples


def heard(recognizer: Recognizer, samples: Samples, *phrases: str) -> list[Event]:
    stream = recognizer.stream(search=recognizer.search_for(Expected(phrases=phrases)))
    return stream.feed(samples) + stream.finish()


def final_text(events: list[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def allowed(scorer: PhraseList, text: str) -> tuple[bool, bool]:
    """Whether ``text`` can be said, and whether an utterance may end there."""
    state, total = scorer.start(), 0.0
    for word in text.split():
        score, state = scorer.score(state, word)
        total += score
    return math.isfinite(total), scorer.is_whole(state)


def test_phrases_follow_each_other_and_may_begin_or_end_alike() -> None:
    scorer = PhraseList([("turn", "it", "up"), ("turn", "it"), ("up", "there"), ("stop",)])
    assert allowed(scorer, "") == (True, True)
    assert allowed(scorer, "turn") == (True, False)
    assert allowed(scorer, "turn it") == (True, True)
    assert allowed(scorer, "turn it up") == (True, True)
    assert allowed(scorer, "turn it up there stop") == (True, True)
    assert allowed(scorer, "turn it stop turn it") == (True, True)
    assert allowed(scorer, "it")[0] is False
    assert allowed(scorer, "turn stop")[0] is False


def test_nothing_else_is_heard_in_partials_either(recognizer: Recognizer, demo: Samples) -> None:
    phrases = ("good morning", "the kettle is on", "buy a boat")
    words = {word for phrase in phrases for word in phrase.split()}
    events = heard(recognizer, demo[: 6 * 16_000], *phrases)
    assert "good morning" in final_text(events)
    partials = [event for event in events if isinstance(event, Partial)]
    assert len(partials) > 3
    for event in partials:
        assert set(event.text.split()) <= words
    for event in (event for event in events if isinstance(event, Final)):
        assert all(allowed(PhraseList([tuple(p.split()) for p in phrases]), event.text))


def test_what_is_not_listed_is_unknown(recognizer: Recognizer, demo: Samples) -> None:
    text = final_text(heard(recognizer, demo[: 6 * 16_000], "good morning", UNKNOWN))
    assert text.startswith("good morning")
    assert set(text.split()) == {"good", "morning", UNKNOWN}


def test_words_outside_the_lexicon_can_be_listed(recognizer: Recognizer, demo: Samples) -> None:
    text = final_text(heard(recognizer, demo[: 3 * 16_000], "gudd mornyng", "buy a boat"))
    assert set(text.split()) == {"gudd", "mornyng"}


@pytest.mark.parametrize(
    ("expected", "named"),
    [
        (Expected(phrases=("yes", "ドラマ", "!!!")), r"phrase 'ドラマ'.*phrase '!!!'"),
        (Expected({"アニメ": 5.0}), "hot phrase 'アニメ'"),
        (Expected(phrases=(UNKNOWN,)), r"besides \[unk\]"),
        (Expected({"anna": 5.0}, ("yes",)), "need the language model"),
    ],
)
def test_what_cannot_be_expected_is_named(
    recognizer: Recognizer, expected: Expected, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        recognizer.search_for(expected)


def test_files_of_phrases(tmp_path: Path) -> None:
    hot, phrases, empty = (tmp_path / name for name in ("hot", "phrases", "empty"))
    hot.write_text("tavik morrenta\t12.5\n\nzelvaro\n")
    phrases.write_text(" good morning\n[unk]\n")
    empty.write_text("\n")
    loaded = Expected.load(hot, phrases)
    assert loaded == Expected({"tavik morrenta": 12.5, "zelvaro": 8.0}, ("good morning", "[unk]"))
    with pytest.raises(ConfigError, match="is empty"):
        Expected.load(empty, None)
    with pytest.raises(ConfigError, match="cannot be read"):
        Expected.load(None, tmp_path / "none")
    hot.write_text("zelvaro\tmuch\n")
    with pytest.raises(ConfigError, match="line 1: 'much' is no weight"):
        Expected.load(hot, None)


def test_characters_refuse_expectations() -> None:
    with pytest.raises(ConfigError, match="--units phones"):
        Recognizer.load(
            ModelConfig(units="characters", phrases=Path(__file__)),
            DecoderConfig(),
            EndpointConfig(),
        )
