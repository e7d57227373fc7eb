"""A user's plain text as sentences of words."""

import lzma
from collections import Counter
from pathlib import Path

import pytest

from streamasr.errors import ConfigError
from streamasr.training.own_text import OwnText, split_sentences, words_of


def read(folder: Path, text: str) -> OwnText:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return OwnText.read([path], known={"'tis"})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Turn ON the lights!", "turn on the lights"),
        ("the café’s naïve Ångström in Łódź", "the cafe's naive angstrom in lodz"),
        ("a well-known rock'n'roll/jazz—duo (R&B)", "a well known rock'n'roll jazz duo r and b"),
        ("'Tis “quoted”, 'quoted' and the dogs' own", "'tis quoted quoted and the dogs own"),
        ("at 7:30 for $5, 3rd of 2026", "at # for # # of #"),
        ("see http://a.b/c, www.a.b or me@a.org", "see # # or #"),
        ("привет to the covid-19 team", "# to the # team"),
        ("* one -- two ... ''three''four", "one two three four"),
        ("snake_case and A.B.C.", "snake case and a b c"),
    ],
)
def test_words_have_letters_and_apostrophes(written: str, words: str) -> None:
    assert list(words_of(written, {"'tis"}, Counter())) == words.split()


def test_what_is_no_word_is_counted_as_it_was_written(tmp_path: Path) -> None:
    text = read(tmp_path, "Wake me at 7.\nWake me at 7, on the 3rd.\n42\n")
    assert text.sentences == ("wake me at #", "wake me at # on the #")
    assert text.unreadable == {"7": 2, "3rd": 1, "42": 1}
    assert text.words == {"wake": 2, "me": 2, "at": 2, "on": 1, "the": 1}


def test_a_line_is_a_sentence() -> None:
    lines = "turn on the lights\nPlay Bang! by AJR\nStop. Now.\n"
    assert list(filter(None, split_sentences(lines))) == [
        "turn on the lights", "Play Bang! by AJR", "Stop.", " Now."
    ]  # fmt: skip


def test_running_prose_goes_on_over_the_ends_of_lines(tmp_path: Path) -> None:
    prose = (
        "It rained. The house was\nold and cold, and\nMr. Smith slept! Then he\nwoke up.\n\n"
        "Chapter two\n\nNobody came at 5 p.m. in the end"
    )
    assert read(tmp_path, prose).sentences == (
        "it rained",
        "the house was old and cold and mr smith slept",
        "then he woke up",
        "chapter two",
        "nobody came at # p m in the end",
    )


def test_packed_texts_are_read_too(tmp_path: Path) -> None:
    packed, plain = tmp_path / "packed.txt.xz", tmp_path / "plain.txt"
    packed.write_bytes(lzma.compress(b"one line\n"))
    plain.write_bytes("\ufeffanother\r\nline\r\n".encode())
    assert OwnText.read([packed, plain], known=()).sentences == ("one line", "another", "line")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"42 + 7 = 49\n", "привет\n".encode()])
def test_a_text_without_a_word_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"text.txt has no word of the letters a-z"):
        OwnText.read([path], known=())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "damaged or not UTF-8"),
        (lzma.compress(b"a word")[:-9], "damaged or not UTF-8"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as refusal:
        OwnText.read([path], known=())
    assert "\n" not in str(refusal.value)
