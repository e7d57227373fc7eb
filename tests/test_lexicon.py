"""The lexicon file: what it keeps, what it refuses, and in which words."""

import lzma
from pathlib import Path

import pytest

from streamasr.decoder.lexicon import PHONES, Lexicon
from streamasr.errors import LanguageModelError

SHARED = Path(__file__).parents[1] / ".." / "shared"
CMUDICT = SHARED / "text" / "cmudict.txt.xz"


def test_there_are_39_phones_without_stress() -> None:
    assert len(PHONES) == len(set(PHONES)) == 39
    assert all(phone.isalpha() and phone.isupper() for phone in PHONES)


def test_lines_of_one_word_are_its_pronunciations_in_order(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("read R EH D\nred R EH D\n\nread(2) R IY D\nread R EH D\n")
    lexicon = Lexicon.load(path)
    assert lexicon["read"] == (("R", "EH", "D"), ("R", "IY", "D"))
    assert list(lexicon) == ["read", "red"]
    assert "ready" not in lexicon


@pytest.mark.parametrize("name", ["lexicon.txt", "lexicon.txt.xz"])
def test_saved_lexicon_loads_equal_and_has_the_same_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lexicon = Lexicon({"to": (("T", "UW"), ("T", "AH")), "at": (("AE", "T"),)})
    lexicon.save(path)
    once = path.read_bytes()
    loaded = Lexicon.load(path)
    assert dict(loaded) == dict(lexicon)
    loaded.save(path)
    assert path.read_bytes() == once


def test_restricted_keeps_known_words_only() -> None:
    lexicon = Lexicon({"to": (("T", "UW"),), "at": (("AE", "T"),)})
    assert dict(lexicon.restricted(["at", "zounds", "at"])) == {"at": (("AE", "T"),)}


def test_a_lexicon_cannot_be_changed() -> None:
    source = {"to": (("T", "UW"),)}
    lexicon = Lexicon(source)
    source["at"] = (("AE", "T"),)
    assert "at" not in lexicon
    with pytest.raises(TypeError):
        lexicon.pronunciations["at"] = ()  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"to T UW\nat AE1 T\n", "line 2: 'AE1' is not a phone"),
        (b"to T UW\n\nat\n", "line 3: no phones after 'at'"),
        (b"", "has no words"),
        (b"\xff\xfe\x00rubbish", "is damaged or not text"),
        (lzma.compress(b"to T UW\n" * 1000)[:-20], "is damaged or not text"),
    ],
    ids=["stress digit", "no phones", "empty", "not text", "truncated xz"],
)
def test_bad_content_is_one_line_with_file_line_and_mend(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(LanguageModelError) as raised:
        Lexicon.load(path)
    message = str(raised.value)
    assert complaint in message
    assert str(path) in message
    assert "\n" not in message


def test_missing_file_and_unwritable_folder_are_language_model_errors(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"no lexicon at .*python lm/build\.py"):
        Lexicon.load(tmp_path / "none.txt")
    with pytest.raises(LanguageModelError, match="cannot read"):
        Lexicon.load(tmp_path)
    with pytest.raises(LanguageModelError, match="cannot write"):
        Lexicon({"to": (("T", "UW"),)}).save(tmp_path / "none" / "lexicon.txt")


@pytest.mark.skipif(not CMUDICT.is_file(), reason="needs ../shared/text/cmudict.txt.xz")
def test_cmudict_loads_whole() -> None:
    lexicon = Lexicon.load(CMUDICT)
    assert lexicon["a"] == (("AH",), ("EY",))
    assert ("W", "ER", "L", "D") in lexicon["world"]
    assert not any("(" in word for word in lexicon)
    used = {phone for word in lexicon for phones in lexicon[word] for phone in phones}
    assert used == set(PHONES)
