"""Where the search can be: all words of a lexicon and what leads from one label to the next."""

from collections.abc import Iterable, Mapping

import numpy as np

from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.lexicon import LAST_PHONES, PHONES, Lexicon, Phones, word_labels
from streamasr.decoder.scorer import Scorer
from streamasr.decoder.tree import ROOT, PrefixTree


class WordGraph:
    """A prefix tree laid out for the search; shared and immutable.

    Nodes of the tree come first, then their *ends*: ``count + n`` is where a word has just
    ended at node ``n``, and has the root's children. ``token`` leads to a node or is held
    there; its ``children`` many children are numbered from ``first_child`` on; ``rank`` is the
    best that the scorer may say of a word at or below it. The other arrays have an entry a
    node of the tree only; see ``PrefixTree``.
    """

    def __init__(self, alphabet: Alphabet, words: tuple[str, ...], tree: PrefixTree) -> None:
        """``tree`` spells ``words``, by their places there, in labels of ``alphabet``."""
        self.alphabet = alphabet
        self.words = words
        self.tree = tree
        self.count = len(tree.token)
        going_on = np.concatenate([np.arange(self.count), np.full(self.count, ROOT)])
        self.token = np.tile(tree.token, 2)
        self.first_child = tree.first_child[going_on].astype(np.int64)
        self.children = tree.children[going_on].astype(np.int64)
        self.rank = np.concatenate([tree.best, np.zeros(self.count)])
        self.rank[[ROOT, *tree.more_roots]] = 0.0
        self.cost = tree.cost
        self.has_children = tree.children > 0
        self.is_end = tree.is_end

    @classmethod
    def of(cls, alphabet: Alphabet, lexicon: Lexicon, scorer: Scorer) -> "WordGraph":
        """Every word of ``lexicon``. Raises KeyError for a phone that is not in the alphabet."""
        return cls(alphabet, tuple(lexicon), _plant(alphabet, lexicon, 0, scorer))

    def extended(self, scorer: Scorer, added: Lexicon, raised: Iterable[str]) -> "WordGraph":
        """This graph with the words of ``added`` besides, and the words ``raised`` ranked as
        ``scorer`` ranks them."""
        number = {word: index for index, word in enumerate(self.words)}
        scores = {number[word]: scorer.unigram(word) for word in raised if word in number}
        tree = self.tree.raised(scores)
        if added:
            tree = tree.joined(_plant(self.alphabet, added, len(self.words), scorer))
        return WordGraph(self.alphabet, (*self.words, *added), tree)

    def with_filler(self, word: str, cost: float) -> "WordGraph":
        """This graph with ``word`` besides, spelled by any labels at ``cost`` each."""
        inner, last = self.alphabet.ids(PHONES), self.alphabet.ids(LAST_PHONES)
        filler = PrefixTree.filler(inner, last, len(self.words), cost)
        return WordGraph(self.alphabet, (*self.words, word), self.tree.joined(filler))


def _plant(
    alphabet: Alphabet, pronunciations: Mapping[str, Iterable[Phones]], first: int, scorer: Scorer
) -> PrefixTree:
    """The tree of all ``pronunciations``; its words are numbered from ``first`` on."""
    index = {label: token for token, label in enumerate(alphabet.labels)}
    spellings, words, scores = [], [], []
    for number, (word, ways) in enumerate(pronunciations.items(), start=first):
        score = scorer.unigram(word)
        for phones in ways:
            spellings.append([index[label] for label in word_labels(phones)])
            words.append(number)
            scores.append(score)
    return PrefixTree.of(spellings, words, scores)
