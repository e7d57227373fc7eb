"""Utterances to batches, the same ones for the same seed, epoch and number of processes.

A batch is a function of ``(seed, epoch, index)`` alone: a run that is stopped and taken
up again sees exactly what it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamasr.decoder.alphabet import CHARACTER_ALPHABET, PHONE_ALPHABET
from streamasr.decoder.lexicon import BOUNDARY, Lexicon
from streamasr.training.augment import AugmentConfig, augment
from streamasr.training.features import FeatureStore, Utterance


@dataclass(frozen=True, slots=True)
class Source:
    """One corpus: its features, and the share of its utterances that an epoch takes."""

    store: FeatureStore
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded frames ``(B, T, mels)`` and the targets of both heads, concatenated.

    ``frame_counts``, ``phone_counts`` and ``character_counts`` are ``(B,)``.
    """

    frames: Tensor
    frame_counts: Tensor
    phones: Tensor
    phone_counts: Tensor
    characters: Tensor
    character_counts: Tensor


def phone_target(text: str, lexicon: Lexicon) -> list[int]:
    """Token ids of the first pronunciation of each word, each word ended by a boundary."""
    labels = [
        label for word in text.split() for label in (*lexicon.pronunciations[word][0], BOUNDARY)
    ]
    return PHONE_ALPHABET.ids(labels)


def make_batch(
    frames: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
    lexicon: Lexicon,
    silence: NDArray[np.float32],
) -> Batch:
    """Pad ``frames`` with ``silence`` to one length and spell ``texts`` for both heads."""
    counts = [len(each) for each in frames]
    padded = np.tile(silence, (len(frames), max(counts), 1)).astype(np.float32)
    for row, each in zip(padded, frames, strict=True):
        row[: len(each)] = each
    phones = [phone_target(text, lexicon) for text in texts]
    characters = [CHARACTER_ALPHABET.ids(text) for text in texts]
    return Batch(
        torch.from_numpy(padded),
        torch.tensor(counts),
        torch.tensor([token for target in phones for token in target]),
        torch.tensor([len(target) for target in phones]),
        torch.tensor([token for target in characters for token in target]),
        torch.tensor([len(target) for target in characters]),
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
    ) -> None:
        self._sources = sources
        self._lexicon = lexicon
        self._silence = silence
        self._mean = mean
        self._noise = None if noise is None else np.asarray(noise.frames, np.float32)
        self._augmentation = augmentation
        self._batch_frames = batch_frames
        self._batch_utterances = batch_utterances
        self._seed = seed
        # One group a recording: its utterances at the different speeds.
        self._groups = [_recordings(source.store) for source in sources]

    def epoch(self, epoch: int) -> list[list[tuple[int, Utterance]]]:
        """The batches of an epoch as (source, utterance) pairs: every recording of a source
        with share 1 once, at a random speed; similar lengths together; the first epoch
        from short to long, the others shuffled."""
        random = np.random.default_rng((self._seed, epoch))
        chosen = []
        for number, (source, groups) in enumerate(zip(self._sources, self._groups, strict=True)):
            order = random.permutation(len(groups))[: round(source.share * len(groups))]
            for index in order:
                group = groups[index]
                chosen.append((number, group[int(random.integers(len(group)))]))
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
        if epoch > 0:
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
        masks: bool,
    ) -> Batch:
        """Augmented frames and targets of every ``processes``-th of ``pairs``, from ``rank``
        on; ``pairs`` are the batch ``index`` of ``epoch``.

        Each utterance has its own random draws, so all shares make the whole batch.
        """
        positions = range(rank, len(pairs), processes)
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
                masks=masks,
            )
            for position in positions
        ]
        texts = [pairs[position][1].text for position in positions]
        return make_batch(frames, texts, self._lexicon, self._silence)


def _recordings(store: FeatureStore) -> list[tuple[Utterance, ...]]:
    speeds = len({utterance.speed for utterance in store.utterances})
    return [
        store.utterances[first : first + speeds]
        for first in range(0, len(store.utterances), speeds)
    ]
