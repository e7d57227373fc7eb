"""Vosk's messages: what is accepted, what is refused and how, and every reply to the letter."""

import json

import pytest

from streamasr.errors import ProtocolError
from streamasr.events import Alternative, Final, Partial, SpeechStarted, StreamEnded, Word
from streamasr.wire.vosk import Config, Eof, Replies, Reset, parse_message

WHAT = Word("what", 0.87, 1.11, 1.0)
ZERO = Word("zero", 1.11, 1.5300000004, 0.98765432)
ONE = Word("one", 2.0, 2.5, 0.5)


def partial(text: str) -> Partial:
    return Partial(0, text, "", 0.0, 1.0, ())


def final(*words: Word, alternatives: tuple[Alternative, ...] = ()) -> Final:
    text = " ".join(word.word for word in words)
    ends = (words[0].start_seconds, words[-1].end_seconds)
    return Final(0, text, *ends, words, 0.9, alternatives, "silence")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"eof" : 1}', Eof()),
        ('{"eof":1}', Eof()),
        (' {\n"eof"\t: true } ', Eof()),
        ('{"reset" : 1}', Reset()),
        ('{"config": {}}', Config()),
        ('{"config": {"sample_rate": 16000}}', Config(sample_rate_hz=16_000)),
        ('{"config": {"sample_rate": 44100.0}}', Config(sample_rate_hz=44_100)),
        ('{"config": {"phrase_list": []}}', Config()),
        ('{"config": {"phrase_list": null}}', Config()),
        (
            '{"config": {"phrase_list": [" zero  one", "[unk]"]}}',
            Config(8_000, ("zero one", "[unk]")),
        ),
        ('{"config": {"words": 0}}', Config(words=False)),
        ('{"config": {"words": true}}', Config()),
        ('{"config": {"max_alternatives": 3}}', Config(max_alternatives=3)),
        ('{"config": {"max_alternatives": 1' + "0" * 99 + "}}", Config(max_alternatives=10)),
        ('{"config": {"token": "secret"}}', Config(token="secret")),
        ('{"config": {"model": "/etc", "spk": 1}, "more": 2}', Config()),
    ],
)
def test_commands(text: str, command: object) -> None:
    assert parse_message(text) == command


def test_a_token_is_never_shown() -> None:
    assert "secret" not in repr(parse_message('{"config": {"token": "secret"}}'))
    with pytest.raises(ProtocolError) as refusal:
        parse_message('{"config": {"token": ["secret"]}}')
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "bad_json", "not JSON"),
        ("[" * 100_000, "bad_json", "not JSON"),
        ('{"config": NaN}', "bad_json", "NaN"),
        ("[]", "bad_message", "object"),
        ("{}", "bad_message", '"config", "eof" or "reset"'),
        ('{"config": {}, "eof": 1}', "bad_message", '"config", "eof" or "reset"'),
        ('{"eof": 0}', "bad_value", "eof must be 1"),
        ('{"reset": "1"}', "bad_value", "reset must be 1"),
        ('{"config": []}', "bad_value", "config must be an object"),
        ('{"config": {"sample_rate": 7999}}', "bad_value", "8000..192000"),
        ('{"config": {"sample_rate": 8000.5}}', "bad_value", "config.sample_rate"),
        ('{"config": {"sample_rate": 1e999}}', "bad_value", "config.sample_rate"),
        ('{"config": {"sample_rate": true}}', "bad_value", "config.sample_rate"),
        ('{"config": {"sample_rate": null}}', "bad_value", "config.sample_rate"),
        ('{"config": {"phrase_list": "zero"}}', "bad_value", "a list of at most 20000"),
        ('{"config": {"phrase_list": ["zero", 1]}}', "bad_value", "config.phrase_list[1]"),
        ('{"config": {"phrase_list": [" "]}}', "bad_value", "1..200 characters"),
        ('{"config": {"phrase_list": ["\\ud800"]}}', "bad_value", "control characters"),
        ('{"config": {"phrase_list": ["a\\u0000b"]}}', "bad_value", "control characters"),
        ('{"config": {"phrase_list": ["' + "x" * 201 + '"]}}', "bad_value", "1..200 characters"),
        ('{"config": {"phrase_list": [' + "0," * 20_000 + "0]}}", "bad_value", "at most 20000"),
        ('{"config": {"words": "no"}}', "bad_value", "true or false"),
        ('{"config": {"words": ' + json.dumps(["x" * 90] * 9) + "}}", "bad_value", "xxx...xxx"),
        ('{"config": {"words": 2}}', "bad_value", "true or false"),
        ('{"config": {"max_alternatives": -1}}', "bad_value", "0..10"),
        ('{"config": {"max_alternatives": 1.5}}', "bad_value", "0..10"),
        ('{"config": {"token": 7}}', "bad_value", "config.token must be a text"),
    ],
)
def test_refusals_are_coded_and_end_the_connection(text: str, code: str, says: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        parse_message(text)
    assert refusal.value.code == code
    assert says in str(refusal.value)
    assert refusal.value.fatal
    assert len(str(refusal.value)) < 200


def test_a_reply_to_audio_is_the_newest_partial() -> None:
    replies = Replies(words=True, max_alternatives=0)
    assert replies.audio() == '{"partial": ""}'
    replies.hear([SpeechStarted(0, 0.1), partial("one"), partial("one zero")])
    assert replies.audio() == '{"partial": "one zero"}'
    assert replies.audio() == '{"partial": "one zero"}'
    replies.hear([partial("")])
    assert replies.audio() == '{"partial": ""}'


def test_a_final_is_told_once_and_before_the_partial_that_followed_it() -> None:
    replies = Replies(words=True, max_alternatives=0)
    replies.hear([partial("what zoo"), final(WHAT, ZERO), partial("on")])
    assert replies.audio() == (
        '{"result": [{"conf": 1.0, "end": 1.11, "start": 0.87, "word": "what"},'
        ' {"conf": 0.987654, "end": 1.53, "start": 1.11, "word": "zero"}], "text": "what zero"}'
    )
    assert replies.audio() == '{"partial": "on"}'


def test_a_final_clears_the_partial_before_it() -> None:
    replies = Replies(words=True, max_alternatives=0)
    replies.hear([partial("what"), final(WHAT)])
    replies.audio()
    assert replies.audio() == '{"partial": ""}'


def test_finals_that_came_together_are_one_reply() -> None:
    replies = Replies(words=True, max_alternatives=0)
    replies.hear([final(WHAT), final(ZERO)])
    replies.hear([final(ONE)])
    reply = json.loads(replies.audio())
    assert reply["text"] == "what zero one"
    assert [word["word"] for word in reply["result"]] == ["what", "zero", "one"]


def test_without_words_a_final_is_its_text() -> None:
    replies = Replies(words=False, max_alternatives=0)
    replies.hear([final(WHAT, ZERO)])
    assert replies.audio() == '{"text": "what zero"}'


def test_the_end_is_a_final_which_may_be_empty() -> None:
    replies = Replies(words=False, max_alternatives=0)
    replies.hear([partial("what"), final(WHAT), StreamEnded(2.0)])
    assert replies.end() == '{"text": "what"}'
    assert replies.end() == '{"text": ""}'


def test_after_a_reset_nothing_is_left_of_before() -> None:
    replies = Replies(words=True, max_alternatives=0)
    replies.hear([partial("what")])
    assert replies.end() == '{"text": ""}'
    assert replies.audio() == '{"partial": ""}'


def test_a_refusal_is_a_final_with_an_error() -> None:
    replies = Replies(words=False, max_alternatives=0)
    replies.hear([final(WHAT)])
    error = ProtocolError("backlog", "send slower", fatal=True)
    assert replies.refuse(error) == (
        '{"text": "what", "error": {"code": "backlog", "message": "send slower"}}'
    )
    assert json.loads(replies.refuse(error))["text"] == ""


def test_alternatives_have_confidences_and_the_words_they_were_given() -> None:
    alternatives = (Alternative("what", 0.75, (WHAT,)), Alternative("watt", 0.25))
    replies = Replies(words=True, max_alternatives=2)
    replies.hear([final(WHAT, alternatives=alternatives)])
    assert replies.audio() == (
        '{"alternatives": [{"confidence": 0.75, "result":'
        ' [{"end": 1.11, "start": 0.87, "word": "what"}], "text": "what"},'
        ' {"confidence": 0.25, "text": "watt"}]}'
    )


@pytest.mark.parametrize(
    ("words", "most", "expected"),
    [
        (True, 10, [("what", 0.75), ("watt", 0.2), ("what", 0.05)]),
        (True, 1, [("what", 0.75)]),
        (False, 2, [("what", 0.75), ("watt", 0.2)]),
    ],
)
def test_no_more_alternatives_than_asked_for(
    words: bool, most: int, expected: list[tuple[str, float]]
) -> None:
    alternatives = (
        Alternative("what", 0.75, (WHAT,)),
        Alternative("watt", 0.2),
        Alternative("what", 0.05),
    )
    replies = Replies(words=words, max_alternatives=most)
    replies.hear([final(WHAT, alternatives=alternatives)])
    reply = json.loads(replies.audio())["alternatives"]
    assert [(each["text"], each["confidence"]) for each in reply] == expected
    assert ("result" in reply[0]) == words


def test_merged_alternatives_join_place_by_place() -> None:
    first = final(
        WHAT, alternatives=(Alternative("what", 0.8, (WHAT,)), Alternative("watt", 0.2, (WHAT,)))
    )
    second = final(ZERO, alternatives=(Alternative("zero", 0.9, (ZERO,)),))
    third = final(ONE, alternatives=(Alternative("one", 0.7, (ONE,)), Alternative("", 0.3)))
    replies = Replies(words=True, max_alternatives=5)
    replies.hear([first, second, third])
    best, other = json.loads(replies.audio())["alternatives"]
    assert (best["text"], best["confidence"]) == ("what zero one", 0.504)
    assert [word["word"] for word in best["result"]] == ["what", "zero", "one"]
    assert (other["text"], other["confidence"]) == ("watt zero", 0.054)
    assert len(other["result"]) == 2


def test_words_that_are_not_all_known_are_left_out() -> None:
    replies = Replies(words=True, max_alternatives=1)
    known, unknown = Alternative("what", 1.0, (WHAT,)), Alternative("zero", 1.0)
    replies.hear([final(WHAT, alternatives=(known,)), final(ZERO, alternatives=(unknown,))])
    assert replies.audio() == '{"alternatives": [{"confidence": 1.0, "text": "what zero"}]}'


def test_a_final_without_alternatives_is_its_only_one() -> None:
    replies = Replies(words=True, max_alternatives=3)
    replies.hear([final(WHAT)])
    (only,) = json.loads(replies.audio())["alternatives"]
    assert (only["text"], only["confidence"], len(only["result"])) == ("what", 0.9, 1)


def test_an_empty_final_has_one_empty_alternative_as_vosk_has() -> None:
    replies = Replies(words=True, max_alternatives=3)
    assert replies.end() == '{"alternatives": [{"confidence": 1.0, "text": ""}]}'
