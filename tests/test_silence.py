"""Words where nobody speaks: the counts on hand-made events, the command on real sounds."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.events import Event, Final, Partial, SpeechStarted, StreamEnded, Word
from streamasr.training.silence import Count, SilenceFigures


def partial(text: str) -> Partial:
    return Partial(0, text, "", 0.0, 1.0, ())


def final(text: str) -> Final:
    words = tuple(Word(word, 0.0, 1.0, 0.5) for word in text.split())
    return Final(0, text, 0.0, 1.0, words, 0.5, (), "silence")


STARTED, ENDED = SpeechStarted(0, 0.0), StreamEnded(9.0)


@pytest.mark.parametrize(
    ("events", "words", "flashes"),
    [
        ([ENDED], 0, 0),
        ([STARTED, final("up"), ENDED], 1, 0),
        ([STARTED, partial("up"), final("up the hill"), ENDED], 3, 0),
        ([STARTED, partial("a"), partial("up"), final("up"), ENDED], 1, 1),
        ([STARTED, partial("up"), final("upper"), ENDED], 1, 1),
        ([STARTED, partial("up to"), final("up"), ENDED], 1, 1),
        ([STARTED, partial("up"), partial("up"), partial(""), ENDED], 0, 1),
        ([STARTED, partial("up"), partial(""), STARTED, partial("up"), final("up"), ENDED], 1, 1),
        ([STARTED, partial("up"), partial("a"), partial(""), STARTED, final("no"), ENDED], 1, 2),
        ([STARTED, partial(""), ENDED], 0, 0),
        ([STARTED, final("up"), STARTED, final("no no"), ENDED], 3, 0),
        ([STARTED, partial("up"), final("up"), STARTED, final("no"), ENDED], 2, 0),
    ],
)
def test_words_of_finals_and_texts_that_flashed(
    events: list[Event], words: int, flashes: int
) -> None:
    count = Count()
    count.add(events)
    assert (count.words, count.flashes) == (words, flashes)


def test_words_an_hour_are_by_kind_and_of_all() -> None:
    figures = SilenceFigures({"dog": Count(600.0, 2, 1), "rain": Count(3000.0, 0, 3)}, skipped=1)
    printed = figures.as_json()
    overall = {"words_per_hour": 2.0, "words": 2, "flashes": 4, "minutes": 60.0}
    assert {name: printed[name] for name in overall} == overall
    assert printed["skipped"] == 1
    assert printed["kinds"] == {
        "dog": {"words_per_hour": 12.0, "words": 2, "flashes": 1, "minutes": 10.0},
        "rain": {"words_per_hour": 0.0, "words": 0, "flashes": 3, "minutes": 50.0},
    }
    assert figures.as_markdown().splitlines()[2:] == [
        "| dog | 12.0 | 2 | 1 | 10.0 |",
        "| rain | 0.0 | 0 | 3 | 50.0 |",
        "| all | 2.0 | 2 | 4 | 60.0 |",
    ]


@pytest.fixture
def folder(tmp_path: Path, demo: np.ndarray) -> Path:
    """Digital silence, a sentence that should not be there, and a file that is no audio."""
    for kind in ("nothing", "speech"):
        (tmp_path / kind).mkdir()
    soundfile.write(tmp_path / "nothing" / "a.wav", np.zeros(32_000), 16_000)
    soundfile.write(tmp_path / "nothing" / "b.wav", np.zeros(16_000), 8_000)
    soundfile.write(tmp_path / "speech" / "a.flac", demo[:96_000], 16_000)
    (tmp_path / "speech" / "b.flac").write_text("this is no audio")
    return tmp_path


def test_recordings_are_counted_by_their_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Partials hold nothing back here and the language model says little: some words flash."""
    eager = tmp_path / "eager.toml"
    eager.write_text("[decoder]\npartial_share = 0.0\nlm_weight = 0.3\n")
    command = ["silence", str(folder), "--minutes", "0", "--json", "--config", str(eager)]
    assert main(command) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert list(figures["kinds"]) == ["nothing", "speech"]
    assert figures["kinds"]["nothing"]["words"] == 0
    assert figures["kinds"]["nothing"]["minutes"] == 0.1  # 4 s
    assert figures["kinds"]["speech"]["minutes"] == 0.1  # 6 s
    spoken = figures["kinds"]["speech"]
    assert 10 <= spoken["words"] <= 16
    assert spoken["words_per_hour"] == pytest.approx(spoken["words"] * 600, rel=0.01)
    assert spoken["flashes"] > 0
    assert figures["words"] == spoken["words"]
    assert figures["skipped"] == 1
    assert "b.flac cannot be read as audio" in printed.err


def test_sounds_are_made_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["silence", "--minutes", "0.05", "--seed", "5"]
    assert main(command) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| kind | words an hour | words | flashes | minutes |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    kinds = ["zeros", "white", "pink", "hum", "breathing", "music", "all"]
    assert [row[0] for row in cells] == kinds
    assert [row[4] for row in cells] == ["0.1"] * 6 + ["0.3"]  # 3 s of each
    assert cells[0][1:4] == ["0.0", "0", "0"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--minutes", "0"], "nothing to hear"),
        (["--minutes", "-1"], "nothing to hear"),
        (["EMPTY"], "no .opus, .wav or .flac file of noise below"),
        (["BROKEN", "--minutes", "0"], "none of the recordings below"),
    ],
)
def test_nothing_to_hear_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    folders = {"EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken"}
    for each in folders.values():
        each.mkdir()
    (folders["BROKEN"] / "a.wav").write_text("this is no audio")
    given = [str(folders.get(argument, argument)) for argument in arguments]
    assert main(["silence", *given]) == 2
    assert named in capsys.readouterr().err
