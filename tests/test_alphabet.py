import pytest

from streamasr.decoder.alphabet import BLANK, CHARACTER_ALPHABET, PHONE_ALPHABET, Alphabet


def test_collapse_merges_repeats_and_drops_blanks() -> None:
    alphabet = Alphabet((BLANK, "a", "b"), 0)
    assert alphabet.collapse([0, 1, 1, 0, 1, 2, 2, 0, 0]) == ["a", "a", "b"]
    assert alphabet.collapse([]) == []


@pytest.mark.parametrize("alphabet", [PHONE_ALPHABET, CHARACTER_ALPHABET])
def test_labels_and_ids_are_one_to_one(alphabet: Alphabet) -> None:
    assert alphabet.ids(alphabet.labels) == list(range(len(alphabet.labels)))
    assert alphabet.labels[alphabet.blank_id] == BLANK


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(KeyError, match="é"):
        CHARACTER_ALPHABET.ids("café")
