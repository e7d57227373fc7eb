"""How a written name is spoken: titles, artists and hot phrases as words of letters."""

import re
import unicodedata
from itertools import islice, product

from num2words import num2words

Words = tuple[str, ...]

_WORD = re.compile(r"[a-z']*[a-z][a-z']*")
_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
    | dict.fromkeys("\u2018\u2019\u02bc`´", "'")
)
_SIGNS = {"&": "and", "+": "plus", "%": "percent", "@": "at", "=": "equals", "#": "number"}
_SHORT = {"feat": "featuring", "ft": "featuring", "w": "with"}
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_INITIALS = re.compile(r"(?<![a-z0-9])((?:[a-z]\.){2,}[a-z]?)(?![a-z])")
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?|[a-z'!$*]+|[&+%@=#]")
_FORMS = 6
"""No name is given more readings than this."""
_DIGITS = 15
"""A longer number is spelled."""


def spoken_forms(text: str) -> list[Words]:
    """The ways to say ``text``, the usual one first: with and without what stands in brackets,
    numbers as numbers and as years.

    Accents go, signs become words, initials and digits are spelled ("R.E.M." r e m, "U2" u
    two), letters that signs stand for are guessed ("P!nk" pink, "A$AP" asap).

    Raises
    ------
    ValueError
        Nothing of it can be said with the letters a-z, or some letters are of another script;
        the message says which.
    """
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    foreign = sorted({c for c in plain if c.isalpha() and not c.isascii()})
    if foreign:
        raise ValueError(f"letters outside a-z: {' '.join(foreign[:5])}")
    forms: dict[Words, None] = {}
    for written in (plain, _BRACKETS.sub(" ", plain)):
        ways = [_say(token) for token in _TOKEN.findall(_INITIALS.sub(_spell, written))]
        for way in islice(product(*ways), _FORMS):
            words = tuple(word for part in way for word in part)
            if words:
                forms[words] = None
    if not forms:
        raise ValueError("no letter or digit")
    return list(forms)[:_FORMS]


def _spell(initials: re.Match[str]) -> str:
    return " ".join(initials[1].replace(".", ""))


def _say(token: str) -> list[Words]:
    """The ways to say one word, number or sign."""
    if token[0].isdigit():
        return _say_number(token)
    if token in _SIGNS:
        return [(_SIGNS[token],)]
    inside = re.sub(r"!(?=[a-z])", "i", token).replace("$", "s")
    word = re.sub(r"[!*]", "", inside).strip("'" if inside.startswith("'") else "")
    word = _SHORT.get(word, word)
    return [(word,)] if _WORD.fullmatch(word) else [()]


def _say_number(token: str) -> list[Words]:
    digits = token.replace(",", "")
    if len(digits) > _DIGITS:
        return [tuple(_words(num2words(int(digit)))[0] for digit in digits if digit.isdigit())]
    if digits[-1].isalpha():
        return [_words(num2words(int(digits[:-2]), to="ordinal"))]
    if "." in digits:
        return [_words(num2words(float(digits)))]
    number = int(digits)
    if len(digits) > 6 or (digits[0] == "0" and len(digits) > 1):
        return [tuple(_words(num2words(int(digit)))[0] for digit in digits)]
    cardinal = _words(num2words(number))
    ways = [tuple(word for word in cardinal if word != "and")]
    if len(digits) == 4 and not 2000 <= number < 2010:
        ways.insert(0, _words(num2words(number, to="year")))
    if len(digits) == 3 and number % 100:
        rest = _words(num2words(number % 100))
        ways.insert(
            0,
            (
                *_words(num2words(number // 100)),
                *(("oh",) if len(rest) == 1 and number % 100 < 10 else ()),
                *rest,
            ),
        )
    return ways


def _words(said: str) -> Words:
    return tuple(re.findall(r"[a-z]+", said.lower()))
