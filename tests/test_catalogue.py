"""A catalogue's names in the language model, heard by the program itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamasr.config import shipped
from streamasr.decoder.catalogue import Catalogue
from streamasr.decoder.classes import ClassModel
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import ConfigError

TABLE = """title\tartist\tyear
Quillfeather Road\tTavik Morrenta\t1999
99 Zelvaro\tThe Oshandra & Sons\t2004
Quillfeather Road (Remastered)\tドラマ\t2011
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "songs.tsv"
    path.write_text(TABLE)
    return path


def test_names_are_spoken_and_counted(table: Path) -> None:
    titles, artists = Catalogue.load(table).classes
    assert titles.phrases == {
        ("quillfeather", "road"): 2.0,
        ("quillfeather", "road", "remastered"): 1.0,
        ("ninety", "nine", "zelvaro"): 1.0,
    }
    assert ("the", "oshandra", "and", "sons") in artists.phrases
    assert Catalogue.load(table).unspoken == ("'ドラマ' (letters outside a-z: ト マ ラ)",)


def test_csv_quotes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text('title,artist\n"Hello, Zelvaro",Kestrivo\n')
    titles, _ = Catalogue.load(path).classes
    assert list(titles.phrases) == [("hello", "zelvaro")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\tartist\na\tb\n", "title and artist"),
        ("title\tartist\nドラマ\tアニメ\n", "no title or artist that can be spoken"),
        ("", "title and artist"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "songs.tsv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        Catalogue.load(path)


def test_a_title_follows_play_and_an_artist_by(table: Path) -> None:
    model = ClassModel(
        NgramModel.load(shipped("lm", "english.kenlm")), Catalogue.load(table).classes
    )

    def score(text: str) -> float:
        state, total = model.start(), 0.0
        for word in text.split():
            added, state = model.score(state, word)
            total += added
        return total

    carried = score("play quillfeather road by tavik morrenta")
    assert carried > score("close quillfeather road by tavik morrenta") + 3
    assert carried > score("play quillfeather road in tavik morrenta") + 3
    assert carried > score("play tavik road by quillfeather morrenta") + 15


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng speaks the request")
def test_a_library_is_heard_without_building_a_language_model(table: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.wav"
    text = "play quillfeather road by tavik morrenta"
    subprocess.run(
        ["espeak-ng", "-v", "en-us", "-s", "140", "-w", str(request), text], check=True, timeout=30
    )

    def transcribe(*flags: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "streamasr", "transcribe", "--format", "json", *flags]
        done = subprocess.run(
            [*command, str(request)], capture_output=True, text=True, check=True, timeout=60
        )
        return json.loads(done.stdout)["text"], done.stderr

    assert "quillfeather" not in transcribe()[0]
    heard, reported = transcribe("--catalogue", str(table))
    assert heard.endswith("quillfeather road by tavik morrenta")
    assert "cannot be pronounced: 'ドラマ' (letters outside a-z" in reported
