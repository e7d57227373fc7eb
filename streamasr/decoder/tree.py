"""All pronunciations of a lexicon as one prefix tree, in arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
ROOT = 0


class PrefixTree:
    """Nodes are numbered level by level, so that the children of a node are neighbours.

    ``token`` ``(nodes,)``: the label that leads to a node, −1 at the root. Children of ``n``
    are ``first_child[n]`` to before ``first_child[n + 1]``. ``is_end`` says where some
    spelling ends; the words spelled there are ``words[first_word[n] : first_word[n + 1]]``,
    likeliest first. ``best`` is the highest score of a word at or below the node.
    """

    def __init__(
        self, spellings: Sequence[Sequence[int]], words: Sequence[int], scores: Sequence[float]
    ) -> None:
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

        self.token: Ints = np.concatenate(token).astype(np.int32)
        self.best = np.concatenate(best)
        every = np.arange(count + 1)
        parents = np.concatenate(parent)[1:]
        self.first_child: Ints = (np.searchsorted(parents, every) + 1).astype(np.int32)
        by_end = np.lexsort((sorted_words, -sorted_scores, node_of))
        self.words: Ints = sorted_words[by_end].astype(np.int32)
        self.first_word: Ints = np.searchsorted(node_of[by_end], every).astype(np.int32)
        self.is_end = np.diff(self.first_word) > 0
