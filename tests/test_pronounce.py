"""Guessed pronunciations, measured against CMUdict with the real espeak-ng."""

import random
import shutil
from pathlib import Path

import pytest

from streamasr.decoder import pronounce as module
from streamasr.decoder.lexicon import PHONES, Lexicon, Phones
from streamasr.decoder.pronounce import pronounce
from streamasr.errors import LanguageModelError

CMUDICT = Path(__file__).parents[1] / ".." / "shared" / "text" / "cmudict.txt.xz"
needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs the espeak-ng program"
)


@needs_espeak
def test_known_words_are_pronounced_as_expected() -> None:
    guessed = pronounce(["hello", "world", "studio", "spotify's", "xii", "hello"])
    assert list(guessed) == ["hello", "world", "studio", "spotify's", "xii"]
    assert guessed["hello"] == (("HH", "AH", "L", "OW"),)
    assert guessed["world"] == (("W", "ER", "L", "D"),)
    assert guessed["studio"] == (("S", "T", "UW", "D", "IY", "OW"),)
    assert guessed["spotify's"][0][-2:] == ("AY", "Z")
    assert guessed["xii"] == (("T", "W", "EH", "L", "V"),)


@needs_espeak
def test_a_batch_gives_what_single_words_give() -> None:
    loan_words = ["atelier", "ie", "tolkien", "wii"]
    words = ["metallica", "'tis", "zzyzx", "o'hara", "vi", "mm", "dogs'", *loan_words]
    batch = pronounce(words)
    assert batch == {word: pronounce([word])[word] for word in words}
    assert all(phone in PHONES for word in words for phones in batch[word] for phone in phones)


def test_no_words_need_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert pronounce([]) == {}


@pytest.mark.parametrize("word", ["", "'", "two words", "line\nbreak", "r2d2", "Hello", "naïve"])
def test_other_characters_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not a word"):
        pronounce([word])


def test_missing_program_is_named_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LanguageModelError, match="apt-get install espeak-ng"):
        pronounce(["hello"])


def test_unknown_phoneme_is_loud() -> None:
    with pytest.raises(LanguageModelError, match=r"'loch' with an unknown phoneme 'X\?'"):
        module._phones("loch", "l_'0_X?")
    with pytest.raises(LanguageModelError, match="says nothing for 'hm'"):
        module._phones("hm", "")


@needs_espeak
@pytest.mark.skipif(not CMUDICT.is_file(), reason="needs ../shared/text/cmudict.txt.xz")
def test_phone_error_rate_on_2000_words_of_cmudict() -> None:
    """Measured 0.101 on this sample; the first guess against CMUdict's first pronunciation."""
    lexicon = Lexicon.load(CMUDICT)
    candidates = sorted(word for word in lexicon if module._WORD.fullmatch(word))
    words = random.Random(1).sample(candidates, 2000)
    guessed = pronounce(words)
    errors = sum(_edits(lexicon[word][0], guessed[word][0]) for word in words)
    phones = sum(len(lexicon[word][0]) for word in words)
    assert errors / phones < 0.12


def _edits(truth: Phones, guess: Phones) -> int:
    """Levenshtein distance in phones."""
    row = list(range(len(guess) + 1))
    for i, expected in enumerate(truth, start=1):
        diagonal, row[0] = row[0], i
        for j, actual in enumerate(guess, start=1):
            change = diagonal + (expected != actual)
            diagonal, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]
