"""What is trained: a network, its loss, its scores and the file it becomes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from streamasr.acoustic.checkpoint import Checkpoint, load_checkpoint
from streamasr.acoustic.gru import GruCtc, NetworkConfig
from streamasr.config import FeatureConfig
from streamasr.decoder.alphabet import CHARACTER_ALPHABET, PHONE_ALPHABET
from streamasr.decoder.lexicon import PHONES
from streamasr.frontend.logmel import silence_frame
from streamasr.training.batches import Batch, Source, frame_statistics, phone_target
from streamasr.training.data import TrainingData
from streamasr.training.dev_scores import DevScores
from streamasr.training.features import Utterance
from streamasr.training.objective import Objective
from streamasr.training.options import TrainConfig
from streamasr.training.plots import Example
from streamasr.training.sequence import label_trigram

Figures = dict[str, float]


class Task(ABC):
    """One kind of network for the training loop, which owns the optimizer and the average.

    ``heads`` are the output layers, which Muon leaves alone; ``figures`` names what ``loss``
    gives besides.
    """

    network: nn.Module
    heads: tuple[nn.Module, ...]
    figures: tuple[str, ...]

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        """What to minimise and figures to show, all summed over the batch's labels."""

    @abstractmethod
    def labels(self, utterances: Iterable[Utterance]) -> int:
        """How many labels these utterances have; the loss is divided by it."""

    @abstractmethod
    def score(self, average: dict[str, Tensor]) -> tuple[Figures, list[Example]]:
        """Dev figures of the averaged weights, of which the lowest ``score`` is the best; and
        transcripts. Rank 0 alone asks."""

    @abstractmethod
    def save(
        self,
        path: Path,
        average: dict[str, Tensor],
        provenance: dict[str, Any],
        figures: Figures,
    ) -> None:
        """Write a file that ``streamasr evaluate --checkpoint`` reads."""


class StreamingTask(Task):
    """The network of ``acoustic/gru.py`` with both heads; see ``objective.py``."""

    network: GruCtc
    figures = ("phone_loss", "character_loss", "sequence_loss")

    def __init__(self, config: TrainConfig, data: TrainingData, *, scores: bool) -> None:
        self._features = FeatureConfig()
        self._lexicon = data.lexicon
        self.network = self._start(config, data.sources)
        shape = self.network.config
        self._name = f"streamasr-en-{shape.width}x{shape.gru_layers}"
        self.heads = (self.network.phone_head, self.network.character_head)
        trigram = label_trigram(
            (phone_target(u, data.lexicon) for s in data.sources for u in s.store.utterances),
            [0, *range(1, len(PHONES) + 1), *range(1, len(PHONES) + 1)],
        )
        self._objective = Objective(
            trigram,
            shape.subsampling,
            config.phone_share,
            config.sequence_share,
        )
        if scores:
            self._scores = DevScores(data, self._objective, self.network.silence.numpy())

    def _start(self, config: TrainConfig, sources: Sequence[Source]) -> GruCtc:
        if config.init is not None:
            network = load_checkpoint(config.init).network.requires_grad_(True)
            network.dropout.p = config.dropout
            return network
        shape = NetworkConfig(
            width=config.width, conv_layers=config.conv_layers, gru_layers=config.gru_layers
        )
        network = GruCtc(shape, dropout=config.dropout)
        network.mean, network.deviation = frame_statistics(sources)
        network.silence = torch.from_numpy(silence_frame(self._features))
        return network

    def labels(self, utterances: Iterable[Utterance]) -> int:
        return sum(len(phone_target(utterance, self._lexicon)) for utterance in utterances)

    def loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        with torch.autocast(batch.frames.device.type, dtype=torch.bfloat16):
            output = self.network(batch.frames)
        loss = self._objective(output, batch)
        return loss.total, {
            "phone_loss": loss.phone,
            "character_loss": loss.character,
            "sequence_loss": loss.sequence,
        }

    def score(self, average: dict[str, Tensor]) -> tuple[Figures, list[Example]]:
        return self._scores.of(self._network_with(average))

    def save(
        self,
        path: Path,
        average: dict[str, Tensor],
        provenance: dict[str, Any],
        figures: Figures,
    ) -> None:
        checkpoint = Checkpoint(
            network=self._network_with(average),
            features=self._features,
            phone_labels=PHONE_ALPHABET.labels,
            character_labels=CHARACTER_ALPHABET.labels,
            name=self._name,
            provenance=provenance,
            figures=figures,
        )
        checkpoint.save(path)

    def _network_with(self, weights: dict[str, Tensor]) -> GruCtc:
        network = GruCtc(self.network.config)
        network.load_state_dict(weights)
        return network.eval()
