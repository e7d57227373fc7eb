"""Classes of phrases in the language model: hot phrases, and names in "play TITLE by ARTIST".

A class-based model (Brown et al., "Class-based n-gram models of natural language", 1992)
in which a class is a trie of phrases, mixed with the n-gram model as one generative story:
before each word outside of phrases, a phrase begins with a chance that depends on the last
words; inside it the class says how likely each next word is; otherwise the n-gram model
does. What is known after some words is how probable each place in this story is, so the
probability of the next word is a sum over places: a distribution again, not a bonus. So a
phrase costs its beginning once, however many words it has, whether or not the n-gram model
knows them, and sentences without phrases lose little: "the" is no sign of a title while it
is likelier in other ways. (A bonus a word, matched as by Aho and Corasick, was tried first:
with 1000 titles of songs it raised the WER of 30 dev recordings from 0.196 to 0.254.)

A state is the n-gram model's state and those places that matter; the n-gram model follows
the words of a phrase, too, so that what comes after it has a history.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamasr.decoder.scorer import LanguageModel, State

Phrase = tuple[str, ...]

_LEAST_PLACE = 0.01
"""Places less probable than this are forgotten."""
_LEFT = 1e-3
"""The chance that a phrase is left unfinished, at any word."""
_HISTORY = 2
"""Words that carriers look back."""
_WORD_CHANCE = 1e-4
"""Words of phrases are ranked as if at least this likely, so that they are not dropped before
their context is known."""

HOT_SHARE = 0.1
"""All hot phrases together begin with at most this chance before a word."""
_UNKNOWN_WORD = -14.2
"""Natural log: what the shipped language model says of an unknown word."""

TITLE_CARRIERS: Mapping[Phrase, float] = {
    (): 0.002,
    ("<s>",): 0.05,
    ("play",): 0.4,
    ("queue",): 0.4,
    ("hear",): 0.3,
    ("listen", "to"): 0.3,
    ("put", "on"): 0.3,
    ("song",): 0.2,
    ("track",): 0.2,
    ("called",): 0.2,
    ("named",): 0.2,
    ("add",): 0.2,
    ("like",): 0.1,
}
ARTIST_CARRIERS: Mapping[Phrase, float] = {
    (): 0.002,
    ("<s>",): 0.02,
    ("by",): 0.4,
    ("from",): 0.2,
    ("artist",): 0.3,
    ("band",): 0.2,
    ("like",): 0.1,
    ("some",): 0.15,
    ("play",): 0.15,
    ("to",): 0.05,
}
"""How often a name follows these last words, the longest match counts; ``<s>`` is the beginning.
Guesses: no text with marked names was there to count."""


@dataclass(frozen=True, slots=True)
class PhraseClass:
    """``phrases`` of one or more words with their relative weights, above 0; ``carriers`` say
    with which chance one of them begins after these last words, ``()`` anywhere else."""

    phrases: Mapping[Phrase, float]
    carriers: Mapping[Phrase, float]

    @classmethod
    def hot(cls, weights: Mapping[Phrase, float]) -> "PhraseClass":
        """Phrases that may begin anywhere, each likelier than an unknown word by its weight (a
        natural log), all of them together with a chance of ``HOT_SHARE`` at most."""
        chances = {phrase: math.exp(_UNKNOWN_WORD + each) for phrase, each in weights.items()}
        return cls(chances, {(): min(HOT_SHARE, sum(chances.values()))})

    def chance(self, history: Phrase) -> float:
        """How likely one of the phrases begins after ``history``."""
        for first in range(len(history)):
            found = self.carriers.get(history[first:])
            if found is not None:
                return found
        return self.carriers[()]


@dataclass(slots=True)
class _Node:
    """A place inside phrases: the weight of those that go through here, and that end here."""

    number: int
    weight: float = 0.0
    ending: float = 0.0
    following: "dict[str, _Node]" = field(default_factory=dict)


_Places = tuple[tuple[int, float], ...]
"""Numbers of nodes with their probability; what is left of 1 is outside of phrases."""


class ClassModel:
    """A language model that also knows classes of phrases; shared and immutable."""

    def __init__(self, model: LanguageModel, classes: Sequence[PhraseClass]) -> None:
        """``model`` stays what it was; classes without phrases are left out."""
        self._model = model
        self._nodes: list[_Node] = []
        self._classes: list[tuple[PhraseClass, _Node]] = []
        self.words: set[str] = set()
        self._first_words: set[str] = set()
        self._carriers: set[Phrase] = set()
        self._beginnings: dict[Phrase, tuple[float, float, list[tuple[_Node, float]]]] = {}
        for each in classes:
            if each.phrases:
                root = self._plant(each.phrases)
                self._classes.append((each, root))
                self._first_words.update(root.following)
                self.words.update(*each.phrases)
                self._carriers.update(c[:end] for c in each.carriers for end in (1, 2) if c)

    def _plant(self, phrases: Mapping[Phrase, float]) -> _Node:
        root = self._add()
        for phrase, weight in phrases.items():
            node = root
            node.weight += weight
            for word in phrase:
                if word not in node.following:
                    node.following[word] = self._add()
                node = node.following[word]
                node.weight += weight
            node.ending += weight
        return root

    def _add(self) -> _Node:
        self._nodes.append(_Node(len(self._nodes)))
        return self._nodes[-1]

    def start(self) -> State:
        """The state before the first word."""
        return self._model.start(), self._carrying(("<s>",)), ()

    def _carrying(self, history: Phrase) -> Phrase:
        """The longest end of ``history`` that may be, or become, a carrier; so that states
        differ only where it matters."""
        for first in range(len(history) if self._carriers else 0):
            if history[first:] in self._carriers:
                return history[first:]
        return ()

    def _beginning(self, history: Phrase) -> tuple[float, float, list[tuple[_Node, float]]]:
        """The chance that no phrase begins after ``history``, its natural log, and each class'
        root with the chance that one of its phrases does."""
        known = self._beginnings.get(history)
        if known is None:
            roots = [(root, each.chance(history)) for each, root in self._classes]
            stays = 1.0 - sum(chance for _, chance in roots)
            known = self._beginnings[history] = stays, math.log(stays), roots
        return known

    def score(self, state: State, word: str) -> tuple[float, State]:
        """Natural log of the probability of ``word`` after ``state``, and the state after it."""
        before, history, at = state
        model_score, after = self._model.score(before, word)
        stays, log_stays, roots = self._beginning(history)
        carrying = self._carrying((*history, word)[-_HISTORY:])
        if not at and word not in self._first_words:  # almost always
            return model_score + log_stays, (after, carrying, ())
        outside, scale = self._outside(at)
        total = outside * stays * math.exp(model_score)
        reached = []
        for number, chance in at:
            node = self._nodes[number]
            if word in node.following:
                reached.append((node, scale * chance, node.following[word]))
        if word in self._first_words:
            for root, begins in roots:
                if word in root.following:
                    reached.append((root, outside * begins, root.following[word]))
        places: dict[int, float] = {}
        for node, chance, child in reached:
            chance /= node.weight - node.ending
            total += chance * child.weight
            if child.following:
                goes_on = chance * (child.weight - child.ending)
                places[child.number] = places.get(child.number, 0.0) + goes_on
        likely: _Places = ()
        if places:
            likely = tuple(
                (number, round(chance / total, 6))
                for number, chance in sorted(places.items())
                if chance >= _LEAST_PLACE * total
            )
        return math.log(total), (after, carrying, likely)

    def finish(self, state: State) -> float:
        """Natural log of the probability that the sentence ends here."""
        before, _, at = state
        outside, _ = self._outside(at)
        return self._model.finish(before) + math.log(outside)

    @staticmethod
    def _outside(at: _Places) -> tuple[float, float]:
        """How probable it is to be outside of phrases, at least ``_LEFT``; and what that makes
        of each place's probability."""
        if not at:
            return 1.0, 1.0
        inside = 0.0
        for _, chance in at:
            inside += chance
        outside = max(1.0 - inside, _LEFT)
        return outside, (1.0 - outside) / inside

    def unigram(self, word: str) -> float:
        """Natural log of the probability of ``word`` after nothing known; words of phrases count
        as not quite rare."""
        score = self._model.unigram(word)
        return max(score, math.log(_WORD_CHANCE)) if word in self.words else score
