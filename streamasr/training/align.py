"""Which pronunciation each word of a recording has, and where the recording can be cut.

A trained network knows both: the best CTC path (Viterbi) through all pronunciations of the
known words says which of them were spoken ("the" as DH AH or DH IY, "a" as AH or EY), and
where many blank steps lie between two words. The quietest frame among those is a place to
cut: a recurrence over many short utterances side by side trains faster than over few long
ones, and a listener that renews its network at every silence hears short utterances anyway.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.decoder.alphabet import PHONE_ALPHABET
from streamasr.decoder.lexicon import Lexicon, word_labels
from streamasr.training.batches import Alignment, Cut, make_batch
from streamasr.training.features import FeatureStore
from streamasr.training.log import disk_error

_BLANK = PHONE_ALPHABET.blank_id
_LEAST_GAP_STEPS = 6
_SMOOTHED_FRAMES = 9
_BATCH = 16


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """``pronunciation`` counts from 0 in the lexicon; the word's labels
    lie on the steps from ``first_step`` to before ``end_step``."""

    pronunciation: int
    first_step: int
    end_step: int


class _Graph:
    """All label sequences of a sentence as CTC states.

    Each state has a token and the states that may come before it, itself included. Words
    are chains of labels, one chain a pronunciation, side by side; a blank may stand
    between any two labels and must between equal ones.
    """

    def __init__(self, words: Sequence[str], lexicon: Lexicon) -> None:
        self.tokens: list[int] = []
        self.before: list[list[int]] = []
        self.word: list[int] = []
        self.pronunciation: list[int] = []
        entries = [self._state(_BLANK, [], -1, -1)]
        self.starts = list(entries)
        for word, spelling in enumerate(words):
            exits = []
            for number, phones in enumerate(lexicon.pronunciations[spelling]):
                last = list(entries)
                for token in PHONE_ALPHABET.ids(word_labels(phones)):
                    label = self._state(
                        token, [s for s in last if self.tokens[s] != token], word, number
                    )
                    if word == 0 and last == entries:
                        self.starts.append(label)
                    last = [label, self._state(_BLANK, [label], -1, -1)]
                exits += last
            entries = exits
        self.ends = entries

    def _state(self, token: int, before: list[int], word: int, pronunciation: int) -> int:
        number = len(self.tokens)
        self.tokens.append(token)
        self.before.append([number, *before])
        self.word.append(word)
        self.pronunciation.append(pronunciation)
        return number


def align(
    log_probs: NDArray[np.float32], words: Sequence[str], lexicon: Lexicon
) -> list[SpokenWord]:
    """The best path through any pronunciations of ``words``; ``log_probs`` are the phone
    head's, ``(steps, labels)``.

    Raises ValueError where the words do not fit into the steps.
    """
    graph = _Graph(words, lexicon)
    width = max(map(len, graph.before))
    before = np.array([each + each[:1] * (width - len(each)) for each in graph.before])
    emissions = log_probs[:, graph.tokens]
    score = np.full(len(graph.tokens), -np.inf)
    score[graph.starts] = emissions[0, graph.starts]
    chosen = np.zeros(emissions.shape, np.int16)
    rows = np.arange(len(graph.tokens))
    for step in range(1, len(emissions)):
        options = score[before]
        best = options.argmax(1)
        chosen[step] = before[rows, best]
        score = options[rows, best] + emissions[step]
    state = max(graph.ends, key=lambda end: score[end])
    if not np.isfinite(score[state]):
        raise ValueError(f"{len(words)} words do not fit into {len(emissions)} steps")
    pronunciation = [0] * len(words)
    first = [0] * len(words)
    end = [0] * len(words)
    for step in range(len(emissions) - 1, -1, -1):
        word = graph.word[state]
        if word >= 0:
            first[word] = step
            end[word] = end[word] or step + 1
            pronunciation[word] = graph.pronunciation[state]
        state = int(chosen[step, state])
    return [SpokenWord(*each) for each in zip(pronunciation, first, end, strict=True)]


def places_to_cut(
    frames: NDArray[np.float32], words: Sequence[SpokenWord], subsampling: int
) -> tuple[Cut, ...]:
    """The quietest frames of the pauses between ``words``; ``frames`` are ``(n, mels)``."""
    level = np.convolve(frames.mean(1), np.ones(_SMOOTHED_FRAMES) / _SMOOTHED_FRAMES, "same")
    quiet = np.quantile(level, 0.25)
    cuts = []
    for number, (word, following) in enumerate(pairwise(words), start=1):
        if following.first_step - word.end_step < _LEAST_GAP_STEPS:
            continue
        first = word.end_step * subsampling
        frame = first + int(level[first : following.first_step * subsampling].argmin())
        if level[frame] < quiet:
            cuts.append(Cut(frame, number))
    return tuple(cuts)


def open_alignments(
    store: FeatureStore, checkpoint: Path, lexicon: Lexicon, folder: Path
) -> dict[int, Alignment]:
    """Alignments of the utterances of ``store`` at their own speed, by index, by the network
    of ``checkpoint``; kept in ``folder``. Raises ConfigError where the disk does not take
    them."""
    words = sorted({word for utterance in store.utterances for word in utterance.text.split()})
    said = repr((store.utterances, [lexicon[word] for word in words]))
    key = sha256(checkpoint.read_bytes() + said.encode()).hexdigest()[:16]
    path = folder / f"{key}.alignments.json"
    if not path.exists():
        found = _align_all(store, checkpoint, lexicon)
        rows = {
            index: [each.pronunciations, [(cut.frame, cut.words) for cut in each.cuts]]
            for index, each in found.items()
        }
        partial = path.with_suffix(".tmp")
        try:
            partial.write_text(json.dumps(rows))
            partial.replace(path)
        except OSError as error:
            raise disk_error(path, error) from None
    return {
        int(index): Alignment(tuple(pronunciations), tuple(Cut(*cut) for cut in cuts))
        for index, (pronunciations, cuts) in json.loads(path.read_text()).items()
    }


@torch.no_grad()
def _align_all(store: FeatureStore, checkpoint: Path, lexicon: Lexicon) -> dict[int, Alignment]:
    network = load_checkpoint(checkpoint).network
    silence = network.silence.numpy()
    own_speed = [index for index, u in enumerate(store.utterances) if u.speed == 1.0]
    own_speed.sort(key=lambda index: store.utterances[index].frames)
    parts = [own_speed[first : first + _BATCH] for first in range(0, len(own_speed), _BATCH)]
    found = {}
    for part in track(parts, "align", console=Console(stderr=True)):
        utterances = [store.utterances[index] for index in part]
        frames = [np.asarray(store.of(utterance), np.float32) for utterance in utterances]
        batch = make_batch(frames, utterances, lexicon, silence)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(batch.frames)
        for row, utterance, index, each in zip(
            output.phones, utterances, part, frames, strict=True
        ):
            log_probs = row[: network.steps(utterance.frames)].numpy()
            try:
                words = align(log_probs, utterance.text.split(), lexicon)
            except ValueError:
                continue
            found[index] = Alignment(
                tuple(word.pronunciation for word in words),
                places_to_cut(each, words, network.config.subsampling),
            )
    return found
