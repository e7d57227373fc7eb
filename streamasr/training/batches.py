"""Utterances to batches, the same ones for the same seed, epoch and number of processes.

A batch is a function of ``(seed, epoch, index)`` alone: a run that is stopped and taken
up again sees exactly what it would have seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.decoder.alphabet import CHARACTER_ALPHABET, PHONE_ALPHABET
from streamasr.decoder.lexicon import Lexicon, word_labels
from streamasr.training.augment import AugmentConfig, augment
from streamasr.training.features import FeatureStore, Utterance


@dataclass(frozen=True, slots=True)
class Cut:
    """A pause in a recording: at ``frame``, after ``words`` words."""

    frame: int
    words: int


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which of its pronunciations each word has, and the pauses; frames at own speed."""

    pronunciations: tuple[int, ...] = ()
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One corpus: its features, the share of its utterances that an epoch takes, and what is
    known of utterances of the recordings' own speed, by their index."""

    store: FeatureStore
    share: float = 1.0
    alignments: Mapping[int, Alignment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded frames ``(B, T, mels)``, the targets of both heads, concatenated, and the texts.

    ``frame_counts``, ``phone_counts`` and ``character_counts`` are ``(B,)``.
    """

    frames: Tensor
    frame_counts: Tensor
    phones: Tensor
    phone_counts: Tensor
    characters: Tensor
    character_counts: Tensor
    texts: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on ``device``."""
        moved = {
            each.name: getattr(self, each.name).to(device)
            for each in fields(self)
            if each.name != "texts"
        }
        return Batch(**moved, texts=self.texts)


def phone_target(utterance: Utterance, lexicon: Lexicon) -> list[int]:
    """Token ids of the words as they were spoken."""
    words = utterance.text.split()
    labels: list[str] = []
    for word, number in zip_longest(words, utterance.pronunciations, fillvalue=0):
        labels += word_labels(lexicon.pronunciations[str(word)][int(number)])
    return PHONE_ALPHABET.ids(labels)


def make_batch(
    frames: Sequence[NDArray[np.float32]],
    utterances: Sequence[Utterance],
    lexicon: Lexicon,
    silence: NDArray[np.float32],
) -> Batch:
    """Pad ``frames`` with ``silence`` to one length and spell ``utterances`` for both heads."""
    counts = [len(each) for each in frames]
    padded = np.tile(silence, (len(frames), max(counts), 1)).astype(np.float32)
    for row, each in zip(padded, frames, strict=True):
        row[: len(each)] = each
    phones = [phone_target(utterance, lexicon) for utterance in utterances]
    characters = [CHARACTER_ALPHABET.ids(utterance.text) for utterance in utterances]
    return Batch(
        torch.from_numpy(padded),
        torch.tensor(counts),
        torch.tensor([token for target in phones for token in target], dtype=torch.long),
        torch.tensor([len(target) for target in phones]),
        torch.tensor([token for target in characters for token in target], dtype=torch.long),
        torch.tensor([len(target) for target in characters]),
        tuple(utterance.text for utterance in utterances),
    )


class TrainingBatches:
    """The batches of every epoch; see the module's docstring."""

    def __init__(
        self,
        sources: Sequence[Source],
        lexicon: Lexicon,
        silence: NDArray[np.float32],
        mean: NDArray[np.float32],
        noise: FeatureStore | None,
        *,
        augmentation: AugmentConfig,
        batch_frames: int,
        batch_utterances: int,
        seed: int,
        short_first: bool = True,
    ) -> None:
        """With ``short_first`` the first epoch goes from short to long and without masks."""
        self._sources = sources
        self._lexicon = lexicon
        self._silence = silence
        self._mean = mean
        self._noise = None if noise is None else np.asarray(noise.frames, np.float32)
        self._augmentation = augmentation
        self._batch_frames = batch_frames
        self._batch_utterances = batch_utterances
        self._seed = seed
        self._short_first = short_first
        # One group a recording: its utterances at the different speeds.
        self._groups = [_recordings(source.store) for source in sources]

    def epoch(self, epoch: int) -> list[list[tuple[int, Utterance]]]:
        """The batches of an epoch as (source, utterance) pairs: every recording of a source
        with share 1 once, at a random speed, cut at some of its pauses; similar lengths
        together."""
        random = np.random.default_rng((self._seed, epoch))
        chosen = []
        for number, (source, groups) in enumerate(zip(self._sources, self._groups, strict=True)):
            passes = range(max(1, math.ceil(source.share)))
            order = np.concatenate([random.permutation(len(groups)) for _ in passes])
            order = order[: round(source.share * len(groups))]
            for index in order:
                group = groups[index]
                utterance = group[int(random.integers(len(group)))]
                known = source.alignments.get(index * len(group) + _own_speed(group), Alignment())
                chosen += [(number, piece) for piece in pieces(utterance, known, random)]
        jitter = random.uniform(0.9, 1.1, len(chosen))
        lengths = np.array([utterance.frames for _, utterance in chosen]) * jitter
        batches: list[list[tuple[int, Utterance]]] = [[]]
        longest = 0
        for index in np.argsort(lengths):
            pair = chosen[index]
            longest = max(longest, pair[1].frames)
            full = longest * (len(batches[-1]) + 1) > self._batch_frames
            if batches[-1] and (full or len(batches[-1]) >= self._batch_utterances):
                batches.append([])
                longest = pair[1].frames
            batches[-1].append(pair)
        if epoch > 0 or not self._short_first:
            batches = [batches[index] for index in random.permutation(len(batches))]
        return batches

    def load(
        self,
        pairs: Sequence[tuple[int, Utterance]],
        epoch: int,
        index: int,
        *,
        rank: int = 0,
        processes: int = 1,
    ) -> Batch:
        """Augmented frames and targets of every ``processes``-th of ``pairs``, from ``rank``
        on; ``pairs`` are the batch ``index`` of ``epoch``.

        Each utterance has its own random draws, and the batch has its own, so all shares make
        the whole batch.
        """
        positions = range(rank, len(pairs), processes)
        of_batch = np.random.default_rng((self._seed, epoch, index, len(pairs)))
        long_pad = bool(of_batch.random() < self._augmentation.long_pad_probability)
        frames = [
            augment(
                np.asarray(
                    self._sources[pairs[position][0]].store.of(pairs[position][1]), np.float32
                ),
                self._silence,
                self._mean,
                self._noise,
                self._augmentation,
                np.random.default_rng((self._seed, epoch, index, position)),
                long_pad=long_pad,
                masks=epoch > 0 or not self._short_first,
            )
            for position in positions
        ]
        utterances = [pairs[position][1] for position in positions]
        return make_batch(frames, utterances, self._lexicon, self._silence)


_PIECE_SECONDS = (2.5, 12.0)


def pieces(
    utterance: Utterance, alignment: Alignment, random: np.random.Generator
) -> list[Utterance]:
    """``utterance`` with its pronunciations, cut at some of its pauses: each piece is at
    least as long as a length drawn anew."""
    words = utterance.text.split()
    result = []
    first = Cut(0, 0)
    wanted = random.uniform(*_PIECE_SECONDS)
    ends = [Cut(round(cut.frame / utterance.speed), cut.words) for cut in alignment.cuts]
    for end in (*ends, Cut(utterance.frames, len(words))):
        if end.words < len(words) and (end.frame - first.frame) / 100 < wanted:
            continue
        piece = replace(
            utterance,
            text=" ".join(words[first.words : end.words]),
            pronunciations=alignment.pronunciations[first.words : end.words],
            first_frame=utterance.first_frame + first.frame,
            frames=end.frame - first.frame,
        )
        result.append(piece)
        first, wanted = end, random.uniform(*_PIECE_SECONDS)
    return result


def frame_statistics(sources: Sequence[Source]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(mels,)`` over a sample of every source's frames."""
    rows = np.concatenate(
        [
            np.asarray(
                source.store.frames[:: max(1, len(source.store.frames) // 100_000)], np.float32
            )
            for source in sources
        ]
    )
    return torch.from_numpy(rows.mean(0)), torch.from_numpy(rows.std(0) + 1e-3)


def _own_speed(group: Sequence[Utterance]) -> int:
    return next(index for index, utterance in enumerate(group) if utterance.speed == 1.0)


def _recordings(store: FeatureStore) -> list[tuple[Utterance, ...]]:
    speeds = len({utterance.speed for utterance in store.utterances})
    return [
        store.utterances[first : first + speeds]
        for first in range(0, len(store.utterances), speeds)
    ]
