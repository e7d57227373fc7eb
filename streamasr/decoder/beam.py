"""Beam search over phones with a lexicon and a scorer of words, step by step.

Theory of operation
-------------------
*What a hypothesis holds.* A history of whole words (its *context*) and a node of the
lexicon's prefix tree, reached through the labels of the word in progress. It carries two
log-probabilities: of all its CTC paths whose last step was blank, and of those whose last
step was the node's own label (Graves, "Supervised sequence labelling with recurrent neural
networks", 2012, 7.5: prefix search). Beside them lies where its best path has its words in
time, which decides nothing. At every step a hypothesis

- stays: by a blank, or by its last label held;
- goes on to each child of its node by the child's label. The same label as the last one
  needs a blank in between, so only the first of the two log-probabilities counts;
- ends a word where its node ends a spelling: the word joins the context and what the
  scorer says of it joins the hypothesis' score. What has just ended a word sits at that
  node's *end*, which has the root's children; a blank takes it to the root itself.

*The scorer* is the weighted language model, with or without classes of phrases mixed into it
(classes.py), or a closed list of phrases (phrases.py); a word that it forbids is not taken.
Words that a stream adds stand in a tree of their own that is joined to the lexicon's: its
root is one more place where a word may begin. A filler's nodes lead to each other and spell
``[unk]`` with any labels, each at a cost.

*When hypotheses merge.* At once where context and node are equal: their probabilities add
up, since they are the same words. So without pruning the search is exact: the score of a
text is the sum over all its paths and pronunciations, times what the scorer says.

*What is dropped.* What has fallen ``beam_threshold`` behind the best. If more than
``beam_size`` are left: of those at one node whose contexts the scorer cannot tell apart
(equal states), all but the best, because they will be treated alike from here on; and of
the others the worst. And what denies settled words that all but ``1 - commit`` of the beam
agree on (posterior.py). Inside a word the best unigram score at or below the node stands in
for the word's score ("smearing"); it ranks hypotheses, and is no part of their scores.

*What is stable.* Every later hypothesis grows out of one in the beam, so the words that all
of them begin with can never be revised; dropping what denies the settled words is what
makes them agree soon.

*When language model state is dropped.* A context holds the state after its words. Beams share
the contexts that were asked for, which changes nothing but speed; every few steps a new beam
forgets those that none of its hypotheses has. A new utterance starts from the scorer's first
state.

A beam is a value: arrays that are never written to again, one entry a hypothesis, and the
log-probabilities it has heard. Every step is computed alone, in the same order whatever the
chunks were, so chunks give what the whole gives, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig
from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.graph import WordGraph
from streamasr.decoder.history import (
    Context,
    Contexts,
    Floats,
    Ints,
    Paths,
    Trace,
    agreement_with,
)
from streamasr.decoder.hypothesis import Heard, HeardWord, Hypothesis, LogProbs
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.posterior import (
    SETTLE_EVERY_STEPS,
    Shares,
    settle,
    shares_of,
    with_shares,
)
from streamasr.decoder.scorer import LanguageModel, Scorer, State, WeightedModel
from streamasr.decoder.tree import ROOT

_CANDIDATES = 2
"""Times the beam's size: how many hypotheses are looked at closely."""


@dataclass(frozen=True, slots=True, eq=False)
class Beam(Heard):
    """The set of hypotheses after ``steps`` steps of an utterance; a value.

    One entry a hypothesis: ``nodes`` (the ends of nodes are numbered after the nodes),
    ``context`` (an index into ``contexts``), and the log-probabilities of the paths that
    are at a ``blank`` or on the node's ``label``. ``known`` has the contexts that were asked
    for; a beam may share it with those before.
    """

    nodes: Ints = field(repr=False)
    context: Ints = field(repr=False)
    blank: Floats = field(repr=False)
    label: Floats = field(repr=False)
    contexts: tuple[Context, ...] = field(repr=False)
    paths: Paths = field(repr=False)
    known: Contexts = field(repr=False)


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
    """The search for one alphabet, lexicon and scorer; shared and immutable."""

    def __init__(self, graph: WordGraph, scorer: Scorer, config: DecoderConfig) -> None:
        """``scorer`` is the one that ranked ``graph``."""
        self.graph = graph
        self.scorer = scorer
        self.alphabet = graph.alphabet
        self._config = config

    @classmethod
    def of(
        cls,
        alphabet: Alphabet,
        lexicon: Lexicon,
        language_model: LanguageModel | None,
        config: DecoderConfig,
    ) -> "LexiconSearch":
        """A search for every word of ``lexicon``; without ``language_model`` every word is as
        likely as the others.

        Raises KeyError for a phone of the lexicon that is not in the alphabet.
        """
        scorer = WeightedModel(language_model, config)
        return cls(WordGraph.of(alphabet, lexicon, scorer), scorer, config)

    def _word_score(self, state: State, word: int) -> tuple[float, State]:
        """What the scorer says of the word number ``word``."""
        return self.scorer.score(state, self.graph.words[word])

    def start(self) -> Beam:
        """The beam of an utterance of which nothing has been heard."""
        paths = Paths(
            np.array([-1]), np.zeros(1), np.zeros(1), np.array([0]), np.array([None], object),
        )  # fmt: skip
        known = Contexts()
        return Beam(
            (), 0, np.array([ROOT]), np.array([0]), np.zeros(1), np.full(1, -np.inf),
            (known.root(self.scorer.start()),), paths, known,
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
        after = Beam(
            beam.chunks,
            beam.steps + 1,
            kept.nodes,
            context,
            kept.blank,
            kept.label,
            tuple(contexts[index] for index in used.tolist()),
            self._follow(beam, kept, column),
            beam.known,
        )
        return self._settle(after) if after.steps % SETTLE_EVERY_STEPS == 0 else after

    def _settle(self, beam: Beam) -> Beam:
        """Settle the words that ended a while ago, and drop what denies what is certain."""
        scores = self._ranks(beam)
        traces = settle(beam.paths.traces, Shares(beam.paths.traces, scores), beam.steps)
        paths = replace(beam.paths, traces=np.array(traces, object))
        beam = replace(beam, paths=paths)
        agreeing = self._agreeing(beam, scores)
        if agreeing.all():
            return replace(beam, known=beam.known.only(beam.contexts))
        index = np.flatnonzero(agreeing)
        used, context = np.unique(beam.context[index], return_inverse=True)
        contexts = tuple(beam.contexts[number] for number in used.tolist())
        return replace(
            beam,
            nodes=beam.nodes[index],
            context=context,
            blank=beam.blank[index],
            label=beam.label[index],
            contexts=contexts,
            paths=paths.take(index),
            known=beam.known.only(contexts),
        )

    def _agreeing(self, beam: Beam, scores: Floats) -> NDArray[np.bool_]:
        """``(hypotheses,)``: which do not deny what all but ``1 - commit_share`` of the beam
        says within the best hypothesis' settled words."""
        best = int(scores.argmax())
        agreement = agreement_with(beam.contexts, beam.contexts[beam.context[best]])[beam.context]
        depth = sum(word.is_settled for word in _words(beam.paths.traces[best]))
        if self._config.commit_share >= 1:
            depth = 0
        shares = shares_of(scores)
        while depth and shares[agreement >= depth].sum() < self._config.commit_share:
            depth -= 1
        agreeing: NDArray[np.bool_] = agreement >= depth
        return agreeing

    def _extend(self, beam: Beam, column: Floats) -> tuple[_Candidates, list[Context]]:
        """Every hypothesis one step later; the contexts of all of them."""
        nodes, count = beam.nodes, len(beam.nodes)
        every = np.arange(count)
        token = self.graph.token[nodes]
        whole = np.logaddexp(beam.blank, beam.label)
        blank = column[self.alphabet.blank_id]
        stay_blank = whole + blank
        stay_label = np.where(token >= 0, beam.label + column[token], -np.inf)
        is_end = nodes >= self.graph.count
        ended = np.flatnonzero(is_end)

        hypothesis, origin = every, nodes
        at_root = np.flatnonzero(is_end | (nodes == ROOT))
        for root in self.graph.tree.more_roots:
            hypothesis = np.concatenate([hypothesis, at_root])
            origin = np.concatenate([origin, np.full(len(at_root), root)])
        children = self.graph.children[origin]
        place = np.repeat(np.arange(len(origin)), children)
        within = np.arange(len(place)) - (np.cumsum(children) - children)[place]
        child = self.graph.first_child[origin][place] + within
        source = hypothesis[place]
        child_token = self.graph.token[child]
        before = np.where(child_token == token[source], beam.blank[source], whole[source])
        reached = before + column[child_token] + self.graph.cost[child]

        scores = _context_scores(beam.contexts)[beam.context]
        rank = reached + scores[source] + self.graph.rank[child]
        rank_stay = np.maximum(stay_blank, stay_label) + scores + self.graph.rank[nodes]
        least = max(rank_stay.max(), rank.max(initial=-np.inf)) - self._config.beam_threshold
        likely = np.flatnonzero(rank >= least)
        most = _CANDIDATES * self._config.beam_size
        if len(likely) > most:
            likely = np.sort(likely[np.argpartition(-rank[likely], most)[:most]])
        child, source, reached = child[likely], source[likely], reached[likely]

        inner = self.graph.has_children[child]
        ends, words, end_source, end_context, contexts = self._end_words(beam, child, source)
        at_end = self.graph.count + child[ends]
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
        tree = self.graph.tree
        found: list[tuple[int, int, int, int]] = []
        for index in np.flatnonzero(self.graph.is_end[child]).tolist():
            node, hypothesis = child[index], source[index]
            context = beam.contexts[beam.context[hypothesis]]
            for word in tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist():
                after = beam.known.after(context, word, self._word_score)
                if after.score == -np.inf:
                    continue
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
        rank = np.logaddexp(merged.blank, merged.label) + scores + self.graph.rank[merged.nodes]
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
        stays = kept.nodes == beam.nodes[kept.source]
        return beam.paths.take(kept.source).stepped(
            beam.steps,
            column[self.graph.token[kept.nodes]],
            begun=~stays & (kept.nodes != ROOT),
            held=stays & (kept.label >= kept.blank),
            at_end=kept.nodes >= self.graph.count,
            at_root=kept.nodes == ROOT,
            ended=kept.word,
            words=self.graph.words,
        )

    def _scores(self, beam: Beam) -> Floats:
        """``(hypotheses,)``: what was heard and what the language model said, up to now."""
        heard = np.logaddexp(beam.blank, beam.label)
        total: Floats = heard + _context_scores(beam.contexts)[beam.context]
        return total

    def _ranks(self, beam: Beam) -> Floats:
        """``(hypotheses,)``: the scores, and what the words in progress may add."""
        ranks: Floats = self._scores(beam) + self.graph.rank[beam.nodes]
        return ranks

    def best(self, beam: Beam) -> Hypothesis:
        """The best hypothesis so far, of whole words; only reads."""
        scores = self._scores(beam)
        ranks = scores + self.graph.rank[beam.nodes]
        best = int(ranks.argmax())
        words = with_shares(_words(beam.paths.traces[best]), Shares(beam.paths.traces, ranks))
        return Hypothesis(words, float(scores[best]))

    def best_whole(self, beam: Beam) -> Hypothesis:
        """The best hypothesis so far, as far as an utterance may end in it; only reads."""
        ranks = self._ranks(beam)
        depth = self._whole(beam.contexts[beam.context[int(ranks.argmax())]]).depth
        best = self.best(beam)
        return replace(best, words=best.words[:depth])

    def stable_words(self, beam: Beam) -> tuple[str, ...]:
        """The words that all hypotheses begin with, as far as an utterance may end after
        them; only reads.

        Every later hypothesis grows out of one of these, so no event revises them.
        """
        level = set(beam.contexts)
        while len(level) > 1:
            depth = max(context.depth for context in level)
            level = {
                context.parent if context.depth == depth and context.parent else context
                for context in level
            }
        return self._texts(self._whole(level.pop()))

    def _whole(self, context: Context) -> Context:
        """The longest beginning of ``context`` that an utterance may end after."""
        while context.parent is not None and not self.scorer.is_whole(context.scorer_state):
            context = context.parent
        return context

    def _texts(self, context: Context) -> tuple[str, ...]:
        words = []
        while context.parent is not None:
            words.append(self.graph.words[context.word])
            context = context.parent
        return tuple(reversed(words))

    def is_speech(self, log_probs: LogProbs) -> NDArray[np.bool_]:
        """``(steps,)``: where some phone is more probable than the blank."""
        speech: NDArray[np.bool_] = log_probs.argmax(axis=1) != self.alphabet.blank_id
        return speech

    def finish(self, beam: Beam, most: int) -> list[Hypothesis]:
        """The utterance is over: up to ``most`` readings of distinct texts, best first.

        What ends inside a word, or where the scorer lets no utterance end, counts only where
        nothing else is left, without that word or back to where it may end.
        """
        may_end = np.array([self.scorer.is_whole(each.scorer_state) for each in beam.contexts])
        at_words = (beam.nodes >= self.graph.count) | (beam.nodes == ROOT)
        whole = np.flatnonzero(at_words & may_end[beam.context])
        if len(whole) == 0:
            whole = np.arange(len(beam.nodes))
        scores = self._scores(beam)
        shares = Shares(beam.paths.traces, scores)
        readings: dict[Context, Hypothesis] = {}
        for number in np.unique(beam.context[whole]).tolist():
            members = whole[beam.context[whole] == number]
            context = self._whole(beam.contexts[number])
            score = float(np.logaddexp.reduce(scores[members]))
            if context.depth:  # silence is no sentence, and no worse for having no end
                score += self.scorer.finish(context.scorer_state)
            best = int(members[scores[members].argmax()])
            words = with_shares(_words(beam.paths.traces[best])[: context.depth], shares)
            if context not in readings or readings[context].score < score:
                readings[context] = Hypothesis(words, score)
        return sorted(readings.values(), key=lambda reading: -reading.score)[:most]

    def decode(self, log_probs: LogProbs, most: int = 1) -> list[Hypothesis]:
        """A whole utterance at once."""
        return self.finish(self.advance(self.start(), log_probs), most)


def _context_scores(contexts: Sequence[Context]) -> Floats:
    return np.array([context.score for context in contexts])


def _words(trace: Trace | None) -> tuple[HeardWord, ...]:
    return () if trace is None else trace.words()
