"""How written names are spoken."""

import pytest

from streamasr.decoder.spoken import spoken_forms


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Bohemian Rhapsody", ["bohemian rhapsody"]),
        ("U2", ["u two"]),
        ("P!nk", ["pink"]),
        ("A$AP Rocky feat. Drake", ["asap rocky featuring drake"]),
        ("R.E.M.", ["r e m"]),
        ("Beyoncé & Mötley Crüe", ["beyonce and motley crue"]),
        ("16 Candles", ["sixteen candles"]),
        ("1st of tha Month", ["first of tha month"]),
        ("10,000 Maniacs", ["ten thousand maniacs"]),
        ("24K Magic", ["twenty four k magic"]),
        ("Blink-182", ["blink one eighty two", "blink one hundred eighty two"]),
        ("Summer of 1969", ["summer of nineteen sixty nine", None]),
        ("007", ["zero zero seven"]),
        ("Stayin' Alive", ["stayin' alive"]),
        ("'Til I Collapse", ["til i collapse"]),
        ("(All of a Sudden) My Heart Sings", ["all of a sudden my heart sings", "my heart sings"]),
    ],
)
def test_names(written: str, spoken: list[str | None]) -> None:
    found = [" ".join(form) for form in spoken_forms(written)]
    assert len(found) == len(spoken)
    for form, wanted in zip(found, spoken, strict=True):
        assert wanted is None or form == wanted


@pytest.mark.parametrize(("written", "why"), [("ドラマ", "outside a-z"), ("!!!", "no letter")])
def test_what_cannot_be_spoken_says_why(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        spoken_forms(written)


def test_a_name_of_many_numbers_has_few_forms() -> None:
    assert len(spoken_forms("101 202 303 404 505 606")) <= 6


@pytest.mark.timeout(10)
def test_a_name_made_to_be_expensive_costs_nothing() -> None:
    """Each 101 has two readings; and no number has a name that long."""
    assert len(spoken_forms("101 " * 40)) <= 6
    for digits in ("9" * 190, "9" * 190 + "th", "9" * 100 + "." + "5" * 90):
        assert spoken_forms(digits)[0][:3] == ("nine", "nine", "nine")
