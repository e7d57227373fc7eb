"""All pronunciations of a lexicon as one prefix tree, in arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
ROOT = 0


Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """Arrays with an entry a node; nodes are numbered level by level, so that the children of a
    node are neighbours, and the root is ``ROOT``.

    ``token`` is the label that leads to a node, -1 at a root. Children of ``n`` are the
    ``children[n]`` nodes from ``first_child[n]`` on. ``is_end`` says where some spelling ends;
    the words spelled there are ``words[first_word[n] : first_word[n + 1]]``, likeliest first.
    ``best`` is the highest score of a word at or below the node. ``cost`` is what entering a
    node adds to a score: 0, but for a filler's nodes. ``more_roots`` are where trees begin that
    were joined to this one: what goes on from ``ROOT`` goes on from there, too.
    """

    token: Ints
    parent: Ints
    first_child: Ints
    children: Ints
    words: Ints
    first_word: Ints
    best: Floats
    cost: Floats
    more_roots: tuple[int, ...] = ()

    @property
    def is_end(self) -> NDArray[np.bool_]:
        """``(nodes,)``: where some spelling ends."""
        return np.diff(self.first_word) > 0

    @classmethod
    def of(
        cls, spellings: Sequence[Sequence[int]], words: Sequence[int], scores: Sequence[float]
    ) -> "PrefixTree":
        """``words[i]`` is spelled by the tokens ``spellings[i]`` and has ``scores[i]``. Several
        words may have one spelling, and a spelling may begin another."""
        lengths = np.array([len(spelling) for spelling in spellings])
        table = np.full((len(spellings), int(lengths.max())), -1, np.int16)
        for row, spelling in zip(table, spellings, strict=True):
            row[: len(spelling)] = spelling
        order = np.lexsort(table.T[::-1])
        table, lengths = table[order], lengths[order]
        sorted_words, sorted_scores = np.asarray(words)[order], np.asarray(scores)[order]

        token, parent, best = [np.array([-1])], [np.array([-1])], [np.array([sorted_scores.max()])]
        node_of = np.zeros(len(table), int)  # of every spelling, at the level reached so far
        count = 1
        rows = np.arange(len(table))
        for level in range(table.shape[1]):
            rows = rows[lengths[rows] > level]
            above, tokens = node_of[rows], table[rows, level]
            is_new = np.ones(len(rows), bool)
            is_new[1:] = (above[1:] != above[:-1]) | (tokens[1:] != tokens[:-1])
            number = np.cumsum(is_new) - 1
            highest = np.full(int(is_new.sum()), -np.inf)
            np.maximum.at(highest, number, sorted_scores[rows])
            token.append(tokens[is_new])
            parent.append(above[is_new])
            best.append(highest)
            node_of[rows] = count + number
            count += len(highest)

        every = np.arange(count + 1)
        parents = np.concatenate(parent)
        first_child = np.searchsorted(parents[1:], every) + 1
        by_end = np.lexsort((sorted_words, -sorted_scores, node_of))
        return cls(
            token=np.concatenate(token).astype(np.int32),
            parent=parents.astype(np.int32),
            first_child=first_child[:-1].astype(np.int32),
            children=np.diff(first_child).astype(np.int32),
            words=sorted_words[by_end].astype(np.int32),
            first_word=np.searchsorted(node_of[by_end], every).astype(np.int32),
            best=np.concatenate(best),
            cost=np.zeros(count),
        )

    @classmethod
    def filler(
        cls, inner: Sequence[int], last: Sequence[int], word: int, cost: float
    ) -> "PrefixTree":
        """Any tokens of ``inner`` and then one of ``last`` spell ``word``, at ``cost`` each."""
        labels = len(inner) + len(last)
        goes_on = np.concatenate([np.ones(1 + len(inner), bool), np.zeros(len(last), bool)])
        return cls(
            token=np.array([-1, *inner, *last], np.int32),
            parent=np.zeros(1 + labels, np.int32),
            first_child=np.ones(1 + labels, np.int32),
            children=np.where(goes_on, labels, 0).astype(np.int32),
            words=np.full(len(last), word, np.int32),
            first_word=np.concatenate(
                [np.zeros(1 + len(inner), np.int32), np.arange(len(last) + 1, dtype=np.int32)]
            ),
            best=np.zeros(1 + labels),
            cost=np.concatenate([np.zeros(1), np.full(labels, cost)]),
        )

    def raised(self, scores: Mapping[int, float]) -> "PrefixTree":
        """The same tree where the words of ``scores`` have at least those scores."""
        of_word = np.full(int(self.words.max(initial=0)) + 1, -np.inf)
        for word, score in scores.items():
            of_word[word] = score
        node = np.repeat(np.arange(len(self.token)), np.diff(self.first_word))
        at_end = of_word[self.words]
        node, at_end = node[np.isfinite(at_end)], at_end[np.isfinite(at_end)]
        best = self.best.copy()
        while len(node):
            np.maximum.at(best, node, at_end)
            inner = self.parent[node] >= 0
            node, at_end = self.parent[node[inner]].astype(int), at_end[inner]
        return replace(self, best=best)

    def joined(self, other: "PrefixTree") -> "PrefixTree":
        """Both trees as one; ``other`` must not have been joined before."""
        count, words = len(self.token), len(self.words)
        return PrefixTree(
            token=np.concatenate([self.token, other.token]),
            parent=np.concatenate(
                [self.parent, np.where(other.parent < 0, -1, other.parent + count)]
            ),
            first_child=np.concatenate([self.first_child, other.first_child + count]),
            children=np.concatenate([self.children, other.children]),
            words=np.concatenate([self.words, other.words]),
            first_word=np.concatenate([self.first_word[:-1], other.first_word + words]),
            best=np.concatenate([self.best, other.best]),
            cost=np.concatenate([self.cost, other.cost]),
            more_roots=(*self.more_roots, count),
        )
