"""A user's plain text as sentences of words that can be recognised.

::

    file ─ split_sentences ─→ "It was 5 p.m. in Łódź – the café's shut."
         ─ words_of ────────→ it was # pm in lodz the café's → cafe's shut   (# stands for "5")

A word has the letters a-z and apostrophes. What cannot be written so (numbers, addresses, other
scripts) is counted, and stands in its sentence as ``UNREADABLE``, so that the words around it
do not seem to follow each other.
"""

import lzma
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import ConfigError

UNREADABLE = "#"
"""Stands for something that is no word of letters; no vocabulary has it."""

_XZ_MAGIC = b"\xfd7zXZ\x00"
_WORD = re.compile(r"[a-z']*[a-z][a-z']*")
_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
    | dict.fromkeys("\u2018\u2019\u02bc`´", "'")
)
_BREAKS = re.compile(r"[^\w'@#$€£%+=<>\\^]+|_+|''+")
"""What stands between words: spaces, stops, brackets, dashes, slashes, quotation marks."""
_ADDRESS = re.compile(r"\S*(?:://|www\.|@\w)\S*")
_END_OF_SENTENCE = re.compile(
    r"(?i:(?<!\bmr)(?<!\bms)(?<!\bdr)(?<!\bst)(?<!\bmrs)(?<!\bvs)(?<!\b[a-z]))"
    r"[.!?…]+[\"'”’)\]]*(?=\s+[^a-z\s]|\s*$)"
)


@dataclass(frozen=True, slots=True)
class OwnText:
    """Sentences of words between single spaces; ``unreadable`` counts what stands in them as
    ``UNREADABLE``, as it was written."""

    sentences: tuple[str, ...]
    unreadable: Counter[str]

    @classmethod
    def read(cls, paths: Iterable[Path], known: Container[str]) -> "OwnText":
        """Read UTF-8 text, plain or compressed with xz: one sentence a line, or running prose.

        Apostrophes around a word are taken for quotation marks unless ``known`` has the word
        with them. Sentences without a word are left out.

        Raises
        ------
        ConfigError
            A file cannot be read or is not text, or none of them has a word.
        """
        sentences: list[str] = []
        unreadable: Counter[str] = Counter()
        names = []
        for path in paths:
            names.append(str(path))
            for sentence in split_sentences(_read(path)):
                words = list(words_of(sentence, known, unreadable))
                if any(word != UNREADABLE for word in words):
                    sentences.append(" ".join(words))
        if not sentences:
            raise ConfigError(
                f"{', '.join(names)} has no word of the letters a-z: name a text in English"
            )
        return cls(tuple(sentences), unreadable)

    @property
    def words(self) -> Counter[str]:
        """How often each word comes."""
        counts = Counter(word for sentence in self.sentences for word in sentence.split())
        del counts[UNREADABLE]
        return counts


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of ``text``.

    A stop ends one if what follows does not go on in lower case, a blank line does, and the end
    of a line does unless the text is running prose: more sentences end inside its lines than at
    their ends, and at least one in ten lines.
    """
    lines = text.splitlines()
    stops = [[match.end() for match in _END_OF_SENTENCE.finditer(line.strip())] for line in lines]
    at_end = sum(
        bool(ends) and ends[-1] == len(line.strip())
        for ends, line in zip(stops, lines, strict=True)
    )
    inside = sum(map(len, stops)) - at_end
    is_prose = inside > max(at_end, len(lines) // 10)
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines)) if is_prose else lines
    for paragraph in paragraphs:
        first = 0
        for match in _END_OF_SENTENCE.finditer(paragraph):
            yield paragraph[first : match.end()]
            first = match.end()
        yield paragraph[first:]


def words_of(sentence: str, known: Container[str], unreadable: Counter[str]) -> Iterator[str]:
    """Yield the words of one sentence, lower case and without accents.

    What is no word is yielded as ``UNREADABLE`` and counted in ``unreadable``.
    """
    for written in sentence.split():
        decomposed = unicodedata.normalize("NFKD", written.lower().translate(_LETTERS))
        plain = "".join(c for c in decomposed if not unicodedata.combining(c)).replace("&", " and ")
        parts = [part for part in _BREAKS.split(plain) if part.strip("'")]
        words = [part if part in known else part.strip("'") for part in parts]
        if _ADDRESS.fullmatch(plain) or not all(map(_WORD.fullmatch, words)):
            unreadable[written.strip(".,;:!?\"'()[]“”‘’")] += 1
            yield UNREADABLE
        else:
            yield from words


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (lzma.decompress(content) if content.startswith(_XZ_MAGIC) else content).decode(
            "utf-8-sig"
        )
    except OSError as error:
        raise ConfigError(
            f"cannot read the text {path}: {error.strerror}; name a readable file"
        ) from None
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is damaged or not UTF-8 text ({error}); name plain text, or xz of it"
        ) from None
