"""Nothing but phrases of a list: the scorer of closed vocabularies."""

from collections.abc import Sequence

from streamasr.decoder.scorer import State

UNKNOWN = "[unk]"
"""In a phrase list: anything else, word by word."""

Phrase = tuple[str, ...]


class PhraseList:
    """A scorer that allows nothing but phrases of a list, one after the other; each is as
    likely as the others. ``[unk]`` among them stands for any other word.

    A state is the set of places in the phrases where the words so far may have come to.
    """

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        """``phrases`` are of one or more words each, at least one phrase."""
        self._following: list[dict[str, int]] = [{}]
        self._is_end = [True]
        for phrase in phrases:
            node = 0
            for word in phrase:
                child = self._following[node].get(word)
                if child is None:
                    child = self._following[node][word] = len(self._following)
                    self._following.append({})
                    self._is_end.append(False)
                node = child
            self._is_end[node] = True

    def start(self) -> State:
        """The state before the first word."""
        return (0,)

    def score(self, state: State, word: str) -> tuple[float, State]:
        """0 where a phrase goes on or begins with ``word``, else minus infinity; the state
        after it."""
        reached = {
            child for node in state if (child := self._following[node].get(word)) is not None
        }
        if any(self._is_end[node] for node in reached):
            reached.add(0)
        return (0.0 if reached else float("-inf")), tuple(sorted(reached))

    def finish(self, state: State) -> float:
        """0 after whole phrases, else minus infinity."""
        return 0.0 if self.is_whole(state) else float("-inf")

    def unigram(self, _: str) -> float:
        """Every word is as likely as the others."""
        return 0.0

    def is_whole(self, state: State) -> bool:
        """Whether the words are whole phrases."""
        return 0 in state
