"""Beam search over phones with a lexicon and an n-gram model, step by step.

Theory of operation
-------------------
A hypothesis is a history of whole words (its *context*) and a node of the lexicon's prefix
tree, reached through the labels of the word in progress. It carries two log-probabilities:
of all its CTC paths whose last step was blank, and of those whose last step was the node's
own label (Graves, "Supervised sequence labelling with recurrent neural networks", 2012,
7.5: prefix search). At every step a hypothesis

- stays: by a blank, or by its last label held;
- goes on to each child of its node by the child's label. The same label as the last one
  needs a blank in between, so only the first of the two log-probabilities counts;
- ends a word where its node ends a spelling: the word joins the context and the language
  model's score joins the hypothesis'. What has just ended a word sits at that node's *end*,
  which has the root's children; a blank takes it to the root itself.

Hypotheses of equal context and node are merged: their probabilities add up, since they are
the same words. What has fallen ``beam_threshold`` behind the best is dropped. If more than
``beam_size`` are left, then of those at one node whose contexts the language model cannot
tell apart only the best is kept (they will be treated alike from here on), and of these
the ``beam_size`` best. So without pruning the search is exact: the score of a text is the
sum over all its paths and pronunciations, times what the language model says.

Inside a word the best unigram score at or below the node stands in for the word's score
("smearing"); it ranks hypotheses, and is no part of their scores.

A beam is a value: arrays that are never written to again, one entry a hypothesis, and the
log-probabilities it has heard. Contexts are shared by the beams of an utterance and
remember what the language model said of their continuations, which changes nothing but
speed. They die with the utterance's last beam. Every step is computed alone, in the same
order whatever the chunks were, so chunks give what the whole gives, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.history import Context, Floats, Ints, Paths, Trace
from streamasr.decoder.hypothesis import Heard, HeardWord, Hypothesis, LogProbs
from streamasr.decoder.lexicon import Lexicon, word_labels
from streamasr.decoder.ngram import NgramModel
from streamasr.decoder.tree import ROOT, PrefixTree

_CANDIDATES = 2
"""Times the beam's size: how many hypotheses are looked at closely."""


@dataclass(frozen=True, slots=True, eq=False)
class Beam(Heard):
    """The set of hypotheses after ``steps`` steps of an utterance; a value.

    One entry a hypothesis: ``nodes`` (the ends of nodes are numbered after the nodes),
    ``context`` (an index into ``contexts``), and the log-probabilities of the paths that
    are at a ``blank`` or on the node's ``label``.
    """

    nodes: Ints = field(repr=False)
    context: Ints = field(repr=False)
    blank: Floats = field(repr=False)
    label: Floats = field(repr=False)
    contexts: tuple[Context, ...] = field(repr=False)
    paths: Paths = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Hypotheses of the next step before merging; ``source`` is the hypothesis each comes
    from, ``word`` the one it has just ended, or −1."""

    nodes: Ints
    context: Ints
    blank: Floats
    label: Floats
    source: Ints
    word: Ints

    def take(self, index: Ints) -> "_Candidates":
        return _Candidates(
            self.nodes[index], self.context[index], self.blank[index], self.label[index],
            self.source[index], self.word[index],
        )  # fmt: skip


class LexiconSearch:
    """The search for one alphabet, lexicon and language model; shared and immutable."""

    def __init__(
        self,
        alphabet: Alphabet,
        lexicon: Lexicon,
        language_model: NgramModel | None,
        config: DecoderConfig,
    ) -> None:
        """Without ``language_model`` every word is as likely as the others.

        Raises KeyError for a phone of the lexicon that is not in the alphabet.
        """
        self.alphabet = alphabet
        self._words = tuple(lexicon)
        self._model = language_model
        self._config = config
        self._tree = self._plant(lexicon)
        count = len(self._tree.token)
        # Nodes, then their ends: what leads there, where to go on, what ranks them.
        self._count = count
        self._token = np.tile(self._tree.token, 2)
        inner = np.arange(count)
        going_on = np.concatenate([inner, np.full(count, ROOT)])
        self._first_child = self._tree.first_child[going_on].astype(np.int64)
        self._children = self._tree.first_child[going_on + 1] - self._first_child
        self._rank = np.zeros(2 * count)
        self._rank[1:count] = config.lm_weight * self._tree.best[1:] + config.word_bonus
        self._has_children = self._children[:count] > 0

    def _plant(self, lexicon: Lexicon) -> PrefixTree:
        index = {label: token for token, label in enumerate(self.alphabet.labels)}
        spellings, words, scores = [], [], []
        for number, (word, pronunciations) in enumerate(lexicon.items()):
            score = 0.0 if self._model is None else self._model.unigram(word)
            for phones in pronunciations:
                spellings.append([index[label] for label in word_labels(phones)])
                words.append(number)
                scores.append(score)
        return PrefixTree(spellings, words, scores)

    def _word_score(self, model_state: Any, word: int) -> tuple[float, Any]:
        """What ``word`` after ``model_state`` adds to a score, and the state after it."""
        if self._model is None:
            return self._config.word_bonus, None
        score, after = self._model.score(model_state, self._words[word])
        return self._config.lm_weight * score + self._config.word_bonus, after

    def start(self) -> Beam:
        """The beam of an utterance of which nothing has been heard."""
        model_state = None if self._model is None else self._model.start()
        paths = Paths(
            np.array([-1]), np.zeros(1), np.zeros(1), np.array([0]), np.array([None], object),
        )  # fmt: skip
        return Beam(
            (), 0, np.array([ROOT]), np.array([0]), np.zeros(1), np.full(1, -np.inf),
            (Context(None, -1, 0.0, model_state),), paths,
        )  # fmt: skip

    def advance(self, beam: Beam, log_probs: LogProbs) -> Beam:
        """Hear ``(steps, labels)`` more; ``beam`` itself stays as it was."""
        if len(log_probs) == 0:
            return beam
        chunks = (*beam.chunks, log_probs)
        for column in log_probs.astype(np.float64):
            beam = self._step(beam, column)
        return replace(beam, chunks=chunks)

    def _step(self, beam: Beam, column: Floats) -> Beam:
        candidates, contexts = self._extend(beam, column)
        merged = self._merge(candidates, len(contexts))
        kept = merged.take(self._prune(merged, contexts))
        used, context = np.unique(kept.context, return_inverse=True)
        return Beam(
            beam.chunks,
            beam.steps + 1,
            kept.nodes,
            context,
            kept.blank,
            kept.label,
            tuple(contexts[index] for index in used.tolist()),
            self._follow(beam, kept, column),
        )

    def _extend(self, beam: Beam, column: Floats) -> tuple[_Candidates, list[Context]]:
        """Every hypothesis one step later; the contexts of all of them."""
        nodes, count = beam.nodes, len(beam.nodes)
        every = np.arange(count)
        token = self._token[nodes]
        whole = np.logaddexp(beam.blank, beam.label)
        blank = column[self.alphabet.blank_id]
        stay_blank = whole + blank
        stay_label = np.where(token >= 0, beam.label + column[token], -np.inf)
        is_end = nodes >= self._count
        ended = np.flatnonzero(is_end)

        children = self._children[nodes]
        source = np.repeat(every, children)
        within = np.arange(len(source)) - (np.cumsum(children) - children)[source]
        child = self._first_child[nodes][source] + within
        child_token = self._token[child]
        before = np.where(child_token == token[source], beam.blank[source], whole[source])
        reached = before + column[child_token]

        scores = _context_scores(beam.contexts)[beam.context]
        rank = reached + scores[source] + self._rank[child]
        rank_stay = np.maximum(stay_blank, stay_label) + scores + self._rank[nodes]
        least = max(rank_stay.max(), rank.max(initial=-np.inf)) - self._config.beam_threshold
        likely = np.flatnonzero(rank >= least)
        most = _CANDIDATES * self._config.beam_size
        if len(likely) > most:
            likely = np.sort(likely[np.argpartition(-rank[likely], most)[:most]])
        child, source, reached = child[likely], source[likely], reached[likely]

        inner = self._has_children[child]
        ends, words, end_source, end_context, contexts = self._end_words(beam, child, source)
        at_end = self._count + child[ends]
        impossible = np.full(len(source), -np.inf)
        candidates = _Candidates(
            np.concatenate([nodes, np.full(len(ended), ROOT), child[inner], at_end]),
            np.concatenate(
                [beam.context, beam.context[ended], beam.context[source[inner]], end_context]
            ),
            np.concatenate(
                [
                    np.where(is_end, -np.inf, stay_blank),
                    stay_blank[ended],
                    impossible[inner],
                    impossible[ends],
                ]
            ),
            np.concatenate(
                [stay_label, np.full(len(ended), -np.inf), reached[inner], reached[ends]]
            ),
            np.concatenate([every, ended, source[inner], end_source]),
            np.concatenate([np.full(count + len(ended) + int(inner.sum()), -1), words]),
        )
        return candidates, contexts

    def _end_words(
        self, beam: Beam, child: Ints, source: Ints
    ) -> tuple[Ints, Ints, Ints, Ints, list[Context]]:
        """The words that end at ``child``, each with its index there, its source and its
        context, an index into the contexts that come last."""
        contexts = list(beam.contexts)
        number = {context: index for index, context in enumerate(contexts)}
        tree = self._tree
        found: list[tuple[int, int, int, int]] = []
        for index in np.flatnonzero(tree.is_end[child]).tolist():
            node, hypothesis = child[index], source[index]
            context = beam.contexts[beam.context[hypothesis]]
            for word in tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist():
                after = context.then(word, self._word_score)
                place = number.get(after)
                if place is None:
                    place = number[after] = len(contexts)
                    contexts.append(after)
                found.append((index, word, hypothesis, place))
        ends, words, sources, places = np.array(found, np.int64).reshape(-1, 4).T
        return ends, words, sources, places, contexts

    @staticmethod
    def _merge(candidates: _Candidates, contexts: int) -> _Candidates:
        """Add up what is at the same node in the same context; the best one's source stays."""
        key = candidates.nodes * contexts + candidates.context
        order = np.lexsort((-np.maximum(candidates.blank, candidates.label), key))
        key = key[order]
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        best = candidates.take(order[first])
        return _Candidates(
            best.nodes,
            best.context,
            np.logaddexp.reduceat(candidates.blank[order], first),
            np.logaddexp.reduceat(candidates.label[order], first),
            best.source,
            best.word,
        )

    def _prune(self, merged: _Candidates, contexts: Sequence[Context]) -> Ints:
        """Which of ``merged`` stay, in their order."""
        scores = _context_scores(contexts)[merged.context]
        rank = np.logaddexp(merged.blank, merged.label) + scores + self._rank[merged.nodes]
        kept = np.flatnonzero(rank >= rank.max() - self._config.beam_threshold)
        most = self._config.beam_size
        if len(kept) > most:
            state = np.array([context.state for context in contexts])[merged.context]
            kept = kept[np.lexsort((-rank[kept], state[kept], merged.nodes[kept]))]
            alike = (np.diff(merged.nodes[kept]) == 0) & (np.diff(state[kept]) == 0)
            kept = kept[np.concatenate([[True], ~alike])]
        if len(kept) > most:
            kept = kept[np.argpartition(-rank[kept], most)[:most]]
        return np.sort(kept)

    def _follow(self, beam: Beam, kept: _Candidates, column: Floats) -> Paths:
        """The paths of the hypotheses that were kept."""
        step = beam.steps
        paths = beam.paths.take(kept.source)
        from_nodes = beam.nodes[kept.source]
        new_label = (kept.nodes != from_nodes) & (kept.nodes != ROOT)
        held = (kept.nodes == from_nodes) & (kept.label >= kept.blank)
        emission = column[self._token[kept.nodes]]
        first = np.where(new_label & (paths.first < 0), step, paths.first)
        count = paths.count + new_label
        total = np.where(new_label, paths.sum + paths.peak, paths.sum)
        peak = np.where(
            new_label, emission, np.where(held, np.maximum(paths.peak, emission), paths.peak)
        )
        traces = paths.traces
        at_end = kept.nodes >= self._count
        for index in np.flatnonzero(at_end).tolist():
            if new_label[index]:
                sureness = float(np.exp((total[index] + peak[index]) / count[index]))
                word = HeardWord(
                    self._words[kept.word[index]],
                    int(first[index]),
                    step + 1,
                    round(min(1.0, sureness), 4),
                )
                traces[index] = Trace(traces[index], word)
            else:
                ended = traces[index]
                traces[index] = Trace(ended.before, replace(ended.word, end_step=step + 1))
        none = at_end | (kept.nodes == ROOT)
        return Paths(
            np.where(none, -1, first),
            np.where(none, 0.0, total),
            np.where(none, 0.0, peak),
            np.where(none, 0, count),
            traces,
        )

    def _scores(self, beam: Beam) -> Floats:
        """``(hypotheses,)``: what was heard and what the language model said, up to now."""
        heard = np.logaddexp(beam.blank, beam.label)
        total: Floats = heard + _context_scores(beam.contexts)[beam.context]
        return total

    def best(self, beam: Beam) -> Hypothesis:
        """The best hypothesis so far, of whole words; only reads."""
        scores = self._scores(beam)
        best = int((scores + self._rank[beam.nodes]).argmax())
        return Hypothesis(_words(beam, best), float(scores[best]))

    def stable_text(self, beam: Beam) -> str:
        """The words that all hypotheses begin with; only reads.

        Every later hypothesis grows out of one of these, so no event revises them.
        """
        level = set(beam.contexts)
        while len(level) > 1:
            depth = max(context.depth for context in level)
            level = {
                context.parent if context.depth == depth and context.parent else context
                for context in level
            }
        words = []
        context = level.pop()
        while context.parent is not None:
            words.append(self._words[context.word])
            context = context.parent
        return " ".join(reversed(words))

    def is_speech(self, log_probs: LogProbs) -> NDArray[np.bool_]:
        """``(steps,)``: where some phone is more probable than the blank."""
        speech: NDArray[np.bool_] = log_probs.argmax(axis=1) != self.alphabet.blank_id
        return speech

    def finish(self, beam: Beam, most: int) -> list[Hypothesis]:
        """The utterance is over: up to ``most`` readings of distinct texts, best first.

        What ends inside a word counts only where nothing else is left, without that word.
        """
        whole = np.flatnonzero((beam.nodes >= self._count) | (beam.nodes == ROOT))
        if len(whole) == 0:
            whole = np.arange(len(beam.nodes))
        scores = self._scores(beam)
        readings = []
        for number in np.unique(beam.context[whole]).tolist():
            members = whole[beam.context[whole] == number]
            score = float(np.logaddexp.reduce(scores[members]))
            if self._model is not None:
                model_state = beam.contexts[number].model_state
                score += self._config.lm_weight * self._model.finish(model_state)
            best = int(members[scores[members].argmax()])
            readings.append(Hypothesis(_words(beam, best), score))
        readings.sort(key=lambda reading: -reading.score)
        return readings[:most]

    def decode(self, log_probs: LogProbs, most: int = 1) -> list[Hypothesis]:
        """A whole utterance at once."""
        return self.finish(self.advance(self.start(), log_probs), most)


def _context_scores(contexts: Sequence[Context]) -> Floats:
    return np.array([context.score for context in contexts])


def _words(beam: Beam, hypothesis: int) -> tuple[HeardWord, ...]:
    trace: Trace | None = beam.paths.traces[hypothesis]
    return () if trace is None else trace.words()
