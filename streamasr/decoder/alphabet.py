"""The labels that a network's head puts out, and which of them is the CTC blank."""

from collections.abc import Iterable
from dataclasses import dataclass
from string import ascii_lowercase

from streamasr.decoder.lexicon import LAST_PHONES, PHONES

BLANK = "<blank>"
SPACE = " "
"""Stands between words where the labels are characters."""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Token ids and labels, one to one; ``labels[blank_id]`` is the blank."""

    labels: tuple[str, ...]
    blank_id: int

    def ids(self, labels: Iterable[str]) -> list[int]:
        """Token ids of ``labels``; raises KeyError for a label that is not in the alphabet."""
        index = {label: token for token, label in enumerate(self.labels)}
        return [index[label] for label in labels]

    def collapse(self, path: Iterable[int]) -> list[str]:
        """The labels that a path of one token a step stands for: repeats merged, blanks out."""
        labels = []
        previous = self.blank_id
        for token in path:
            if token not in (previous, self.blank_id):
                labels.append(self.labels[token])
            previous = token
        return labels


PHONE_ALPHABET = Alphabet((BLANK, *PHONES, *LAST_PHONES), 0)
CHARACTER_ALPHABET = Alphabet((BLANK, *ascii_lowercase, "'", SPACE), 0)
