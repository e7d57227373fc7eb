"""What viewers see, on hand-made events with known answers."""

from collections.abc import Sequence

import pytest

from streamasr.events import Event, Final, Partial, SpeechStarted, StreamEnded, Word
from streamasr.training.live import LiveFigures, LiveMeasures, SaidWord, Shown


def words_of(text: str, confidence: float = 0.5) -> tuple[Word, ...]:
    """Word number n lies from n + 0.1 to n + 0.6 seconds."""
    return tuple(
        Word(word, place + 0.1, place + 0.6, confidence) for place, word in enumerate(text.split())
    )


def partial(text: str, stable: str = "", utterance: int = 0) -> Partial:
    return Partial(utterance, text, stable, 0.0, 1.0, words_of(text))


def final(text: str, utterance: int = 0, confidence: float = 0.5) -> Final:
    words = words_of(text, confidence)
    return Final(utterance, text, 0.0, 1.0, words, confidence, (), "silence")


def said_at_once(text: str) -> list[SaidWord]:
    """Word number n lies from n to n + 0.5 seconds."""
    return [SaidWord(word, place, place + 0.5) for place, word in enumerate(text.split())]


def measured(events: Sequence[Event], said: str | Sequence[SaidWord] = "") -> LiveFigures:
    """Figures of one recording whose events came after 1, 2, 3, … seconds of audio."""
    measures = LiveMeasures()
    shown = [Shown(float(number), event) for number, event in enumerate(events, start=1)]
    measures.add(shown, said_at_once(said) if isinstance(said, str) else said)
    return measures.figures(recordings=1, skipped=0, audio_seconds=10.0)


@pytest.mark.parametrize(
    ("texts", "unstable"),
    [
        (["the", "the cat", "the cat sat"], 0),
        (["the", "a", "the cat sat"], 2),
        (["the cat", "the hat", "the cat sat"], 2),
        (["a cat sat", "the cat sat", "the cat sat"], 3),
        (["the cat sat on", "the cat sat"], 1),
        (["the cat", "", "the cat sat"], 2),
        (["the cat sat"], 0),
    ],
)
def test_words_that_the_next_event_changes_are_unstable(texts: list[str], unstable: int) -> None:
    *partials, last = texts
    events = [SpeechStarted(0, 0.0), *map(partial, partials), final(last), StreamEnded(9.0)]
    assert measured(events).unstable_partial_word_ratio == round(unstable / 3, 4)


def test_another_utterance_changes_nothing() -> None:
    events = [partial("the cat"), final("the cat"), partial("no", utterance=1), final("no", 1)]
    assert measured(events).unstable_partial_word_ratio == 0
    vanished = [
        partial("the cat"),
        final("the cat"),
        partial("no", utterance=1),
        partial("", "", 1),
    ]
    assert measured(vanished).unstable_partial_word_ratio == 0.5


@pytest.mark.parametrize(
    ("events", "violations"),
    [
        ([partial("the cat", "the"), partial("the hat", "the"), final("the hat")], 0),
        ([partial("the cat", "the cat"), partial("the hat", "the"), final("the hat")], 2),
        ([partial("the cat", "the"), partial("a cat", ""), final("the cat")], 1),
        ([partial("the cat", "the cat"), final("the cats")], 1),
        ([partial("the cat", "the cat"), final("the")], 1),
        ([partial("the cat", "a"), partial("a cat", "a"), final("a cat")], 1),
        ([partial("the", "the"), partial("")], 1),
        ([partial("no", "no", 0), final("no", 0), partial("yes", "yes", 1), final("yes", 1)], 0),
    ],
)
def test_stable_text_that_is_revised_is_a_violation(events: list[Event], violations: int) -> None:
    assert measured(events).stable_text_violations == violations


def test_delays_run_from_a_words_end_to_the_audio_fed() -> None:
    events = [
        partial("a"),  # 1 s: the wrong word
        partial("the hat"),  # 2 s: "the" is there
        partial("the cat", "the"),  # 3 s: "the" is stable, "cat" is there
        final("the cat"),  # 4 s: "cat" is stable
    ]
    figures = measured(events, "the cat")  # which end after 0.5 and 1.5 s
    assert figures.first_partial_delay_ms == {"p50": 1500.0, "p90": 1500.0}
    assert figures.stable_delay_ms == {"p50": 2500.0, "p90": 2500.0}
    later = measured([partial("up"), *events], "the cat")
    assert later.first_partial_delay_ms == {"p50": 2500.0, "p90": 2500.0}
    assert later.stable_delay_ms == {"p50": 3500.0, "p90": 3500.0}


def test_a_word_counts_only_at_its_place() -> None:
    figures = measured([partial("cat"), partial("the cat"), final("the cat")], "a cat")
    assert figures.right_words == 1
    assert figures.first_partial_delay_ms["p50"] == 500.0


def test_a_word_that_vanished_was_there_when_it_first_came() -> None:
    figures = measured([partial("no"), partial("know"), final("no")], "no")
    assert figures.first_partial_delay_ms["p50"] == 500.0
    assert figures.stable_delay_ms["p50"] == 2500.0


def test_percentiles_are_over_words() -> None:
    places = [SaidWord("no", 0.0, 1 - delay) for delay in (0.1, 0.2, 0.3, 0.4, 0.5)]
    measures = LiveMeasures()
    for said in places:
        measures.add([Shown(1.0, final("no"))], [said])
    figures = measures.figures(recordings=5, skipped=0, audio_seconds=5.0)
    assert figures.first_partial_delay_ms == {"p50": 300.0, "p90": 460.0}


def test_errors_of_word_times_have_a_sign() -> None:
    early = [SaidWord("the", 0.2, 0.5), SaidWord("cat", 1.4, 1.65), SaidWord("sat", 2.0, 2.7)]
    figures = measured([final("the cat sat")], early)  # heard at n + 0.1 to n + 0.6
    assert figures.word_start_error_ms == {"p50": 100.0, "p90": 260.0, "signed_p50": -100.0}
    assert figures.word_end_error_ms == {"p50": 100.0, "p90": 100.0, "signed_p50": -50.0}


def test_wrong_words_have_no_times_and_unplaced_ones_neither() -> None:
    figures = measured([final("the hat")], "a cat")
    assert (figures.words, figures.right_words) == (2, 0)
    assert figures.first_partial_delay_ms == {"p50": None, "p90": None}
    assert figures.word_end_error_ms == {"p50": None, "p90": None, "signed_p50": None}
    unplaced = measured([final("the cat")], [SaidWord("the"), SaidWord("cat", 0.0, 0.5)])
    assert (unplaced.right_words, unplaced.unplaced_words) == (2, 1)
    assert unplaced.first_partial_delay_ms == {"p50": 500.0, "p90": 500.0}


def test_words_are_paired_over_the_whole_recording() -> None:
    events = [final("so the cat", 0), final("sat on", 1)]
    figures = measured(events, "the cat sat on it")
    assert (figures.words, figures.right_words) == (5, 4)


def test_confidences_are_of_all_words_of_finals() -> None:
    measures = LiveMeasures()
    measures.add([Shown(1.0, final("yes", 0, 0.9)), Shown(2.0, final("no", 1, 0.2))], [])
    measures.add([Shown(1.0, final("yes", 0, 0.8))], [SaidWord("yes")])
    assert measures.confidences == [0.9, 0.2, 0.8]
    assert measures.right == [False, False, True]
    other = LiveMeasures()
    other.add([Shown(1.0, final("a cat"))], [SaidWord("cat")])
    assert other.right == [False, True]
    figures = measures.figures(recordings=2, skipped=0, audio_seconds=3.0)
    assert figures.confidence_auc == 0.5
    assert figures.calibration_error == pytest.approx((0.9 + 0.2 + 0.2) / 3, abs=1e-4)


def test_nothing_said_is_nothing_measured() -> None:
    figures = measured([StreamEnded(1.0)])
    assert figures.words == 0
    assert figures.unstable_partial_word_ratio is None
    assert figures.confidence_auc is None
    assert figures.calibration_error is None
    assert figures.normalised_cross_entropy is None


def test_the_table_has_a_line_a_figure() -> None:
    lines = measured([final("the cat")], "the cat").as_markdown().splitlines()
    assert lines[:2] == ["| figure | value |", "| --- | --- |"]
    assert "| first_partial_delay_ms p90 | 400.0 |" in lines
    assert "| confidence_auc |  |" in lines
