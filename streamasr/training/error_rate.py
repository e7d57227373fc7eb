"""Error rates: edits over the length of what was said; and which words were right."""

from collections.abc import Hashable, Sequence

from rapidfuzz.distance import Levenshtein


class ErrorRate:
    """Insertions, deletions and substitutions, added up over utterances."""

    def __init__(self) -> None:
        self.edits = 0
        self.length = 0

    def add(self, said: Sequence[Hashable], heard: Sequence[Hashable]) -> None:
        """One utterance: words, phones, or the characters of a string."""
        self.edits += int(Levenshtein.distance(said, heard))
        self.length += len(said)

    @property
    def rate(self) -> float:
        """Edits per symbol said, to four places; 0 where nothing was said."""
        return round(self.edits / max(1, self.length), 4)


def equal_pairs(said: Sequence[Hashable], heard: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places in ``said`` and in ``heard`` that an alignment with the fewest edits pairs and
    that have the same symbol, in order."""
    return [
        (edit.src_start + place, edit.dest_start + place)
        for edit in Levenshtein.opcodes(said, heard)
        if edit.tag == "equal"
        for place in range(edit.src_end - edit.src_start)
    ]
