"""Words and how they are pronounced, in the 39 phones of CMUdict without stress digits."""

import lzma
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from streamasr.errors import LanguageModelError

PHONES: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH",
    "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH",
    "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
"""CMUdict's phones, in alphabetical order."""

WORD_END = "|"
"""Marks the last phone of a word: ``T|`` is the end of "cat"."""

LAST_PHONES: tuple[str, ...] = tuple(phone + WORD_END for phone in PHONES)
"""The phones as last ones of a word, in the order of :data:`PHONES`."""

Phones: TypeAlias = tuple[str, ...]
"""One pronunciation: a sequence of :data:`PHONES`, never empty."""


def word_labels(phones: Phones) -> Phones:
    """``phones`` as the network writes a word: the last one marked as such."""
    return (*phones[:-1], phones[-1] + WORD_END)


_XZ_MAGIC = b"\xfd7zXZ\x00"
_KNOWN_PHONES = frozenset(PHONES)


@dataclass(frozen=True, slots=True)
class Lexicon(Mapping[str, tuple[Phones, ...]]):
    """Words with their pronunciations; a read-only mapping.

    Parameters
    ----------
    pronunciations
        For every word at least one pronunciation, the usual one first.
    """

    pronunciations: Mapping[str, tuple[Phones, ...]]

    def __post_init__(self) -> None:
        frozen = MappingProxyType(dict(self.pronunciations))
        object.__setattr__(self, "pronunciations", frozen)

    def __getitem__(self, word: str) -> tuple[Phones, ...]:
        return self.pronunciations[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self.pronunciations)

    def __len__(self) -> int:
        return len(self.pronunciations)

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read ``word P1 P2 ...``, one pronunciation a line, several lines a word.

        CMUdict's numbered alternatives (``read(2) R IY D``) are lines of the word without its
        number. Empty lines are skipped; a pronunciation that was given before is dropped.

        Parameters
        ----------
        path
            UTF-8 text, plain or compressed with xz; the content decides, not the name.

        Raises
        ------
        LanguageModelError
            The file is missing, unreadable, damaged or empty, or a line of it is not a
            word with phones.
        """
        pronunciations: dict[str, list[Phones]] = {}
        for number, line in enumerate(_read_text(path).splitlines(), start=1):
            word, *phones = line.split() or [""]
            if not word:
                continue
            if not phones:
                raise LanguageModelError(
                    f"lexicon {path}, line {number}: no phones after {word!r}; "
                    "write 'word P1 P2 ...' or delete the line"
                )
            for phone in phones:
                if phone not in _KNOWN_PHONES:
                    raise LanguageModelError(
                        f"lexicon {path}, line {number}: {phone!r} is not a phone; "
                        "use CMUdict's 39 phones without stress digits, such as AH or K"
                    )
            known = pronunciations.setdefault(_without_number(word), [])
            if tuple(phones) not in known:
                known.append(tuple(phones))
        if not pronunciations:
            raise LanguageModelError(
                f"lexicon {path} has no words; put it back from the release or rebuild it with "
                "'python lm/build.py'"
            )
        return cls({word: tuple(known) for word, known in pronunciations.items()})

    def save(self, path: Path) -> None:
        """Write what :meth:`load` reads, words in code-point order, xz where the name ends so.

        The same lexicon gives the same bytes.

        Raises
        ------
        LanguageModelError
            The file cannot be written.
        """
        lines = [f"{word} {' '.join(phones)}\n" for word in sorted(self) for phones in self[word]]
        content = "".join(lines).encode()
        if path.suffix == ".xz":
            content = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        try:
            path.write_bytes(content)
        except OSError as error:
            raise LanguageModelError(
                f"cannot write lexicon {path}: {error.strerror}; choose a folder that exists "
                "and can be written"
            ) from error

    def restricted(self, words: Iterable[str]) -> "Lexicon":
        """Return the lexicon of those ``words`` that are in this one; others are left out."""
        return Lexicon({word: self[word] for word in dict.fromkeys(words) if word in self})


def _without_number(word: str) -> str:
    """Turn ``read(2)``, CMUdict's spelling of a second pronunciation, into ``read``."""
    stem, bracket, number = word.rpartition("(")
    return stem if bracket and stem and number[:-1].isdigit() and number[-1] == ")" else word


def _read_text(path: Path) -> str:
    """Return the text of a plain or xz file, or raise LanguageModelError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise LanguageModelError(
            f"no lexicon at {path}; put it back from the release or rebuild it with "
            "'python lm/build.py'"
        ) from error
    except OSError as error:
        raise LanguageModelError(
            f"cannot read lexicon {path}: {error.strerror}; name a readable file"
        ) from error
    try:
        return (lzma.decompress(content) if content.startswith(_XZ_MAGIC) else content).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise LanguageModelError(
            f"lexicon {path} is damaged or not text ({error}); put it back from the release or "
            "rebuild it with 'python lm/build.py'"
        ) from error
