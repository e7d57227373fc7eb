"""The networks of the usual speech recognition tutorials, to compare with.

Each is kept in the shape its tutorial gives it (two-dimensional convolutions over the
spectrogram, then recurrence, one softmax over characters; or a classifier of one-second
clips), made small enough for a CPU, and trained by the same loop on the same batches:
``streamasr train --network cnn-bigru …``. What comes out is scored by ``streamasr evaluate
--checkpoint FILE``. None is used by the daemon.
"""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, nll_loss

from streamasr.decoder.alphabet import CHARACTER_ALPHABET
from streamasr.decoder.characters import greedy_text
from streamasr.errors import CheckpointError, ConfigError
from streamasr.training.batches import Batch, frame_statistics
from streamasr.training.data import TrainingData
from streamasr.training.dev_scores import dev_part
from streamasr.training.error_rate import ErrorRate
from streamasr.training.features import Utterance
from streamasr.training.options import TrainConfig
from streamasr.training.plots import Example
from streamasr.training.task import Task

FORMAT = "streamasr baseline 1"
_CHANNELS = 32
_HIDDEN = 256
_CHARACTERS = len(CHARACTER_ALPHABET.labels)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a tutorial's network is made of. Convolutions are 3x3 with ``_CHANNELS`` channels,
    the first one with stride 2 in time and frequency; ``residual_blocks`` follow them."""

    mels: int = 80
    convolutions: int = 0
    residual_blocks: int = 0
    cell: str = "gru"
    layers: int = 3
    bidirectional: bool = True


SHAPES: dict[str, Shape] = {
    "cnn-lstm": Shape(convolutions=2, cell="lstm", layers=2, bidirectional=False),
    "cnn-bigru": Shape(convolutions=2),
    "cnn-resnet-bigru": Shape(convolutions=1, residual_blocks=3),
    "bigru-128": Shape(mels=128),
}
"""The tutorials' transcribers: 29 outputs each, the character alphabet with its blank."""

_LEAST_FRAMES = 27
"""What three poolings by three leave one step of."""

WORD_CLASSIFIER = "conv1d-words"
"""The tutorials' classifier: Conv1D over the frames of one second, one output a word."""


class Transcriber(nn.Module):
    """Spectrogram to log-probabilities of characters; ``(B, T, mels)`` to ``(B, steps, 29)``.

    Whole recordings only, even without backward recurrence: the convolutions look ahead.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.mels))
        self.register_buffer("deviation", torch.ones(shape.mels))
        self.subsampling = 2 if shape.convolutions else 1
        layers: list[nn.Module] = []
        for number in range(shape.convolutions):
            stride = 2 if number == 0 else 1
            channels = 1 if number == 0 else _CHANNELS
            layers += [nn.Conv2d(channels, _CHANNELS, 3, stride, padding=1), nn.ReLU()]
        layers += [_ResidualBlock() for _ in range(shape.residual_blocks)]
        self.convolutions = nn.Sequential(*layers)
        inputs = shape.mels
        if shape.convolutions:
            inputs = _CHANNELS * -(-shape.mels // 2)
        self.project = nn.Linear(inputs, _HIDDEN)
        cell = {"gru": nn.GRU, "lstm": nn.LSTM}[shape.cell]
        self.recurrence = cell(
            _HIDDEN,
            _HIDDEN,
            shape.layers,
            batch_first=True,
            bidirectional=shape.bidirectional,
        )
        self.head = nn.Linear(_HIDDEN * (2 if shape.bidirectional else 1), _CHARACTERS)

    def steps(self, frames: int) -> int:
        """How many steps ``frames`` frames give."""
        return -(-frames // self.subsampling)

    def forward(self, frames: Tensor) -> Tensor:
        x = (frames - self.mean) / self.deviation
        if len(self.convolutions):
            x = self.convolutions(x[:, None]).permute(0, 2, 1, 3).flatten(2)
        x = torch.relu(self.project(x))
        x, _ = self.recurrence(x)
        log_probs: Tensor = self.head(x).float().log_softmax(-1)
        return log_probs

    @torch.no_grad()
    def log_probs(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(steps, 29)`` of a whole recording's ``frames`` ``(n, mels)``."""
        log_probs: NDArray[np.float32] = self(torch.from_numpy(frames)[None])[0].numpy()
        return log_probs

    def text(self, frames: NDArray[np.float32]) -> str:
        """The words of the most probable path."""
        return greedy_text(self.log_probs(frames))


class _ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation around a shortcut (He et al., 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.BatchNorm2d(_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class WordClassifier(nn.Module):
    """``(B, T, mels)`` to log-probabilities ``(B, words)`` of clips of one word.

    The convolutions' maxima over time are kept, so the word may lie anywhere in the clip.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, words: Sequence[str], mels: int = 80) -> None:
        super().__init__()
        self.words = tuple(words)
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("deviation", torch.ones(mels))
        widths = (mels, 64, 96, 128)
        self.convolutions = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Conv1d(before, after, 5, padding=2), nn.ReLU(), nn.MaxPool1d(3))
            ),
        )
        self.hidden = nn.Linear(widths[-1], 128)
        self.head = nn.Linear(128, len(self.words))

    def forward(self, frames: Tensor) -> Tensor:
        x = (frames - self.mean) / self.deviation
        x = nn.functional.pad(x, (0, 0, 0, max(0, _LEAST_FRAMES - x.shape[1])))
        x = self.convolutions(x.transpose(1, 2)).amax(2)
        log_probs: Tensor = self.head(torch.relu(self.hidden(x))).float().log_softmax(-1)
        return log_probs

    @torch.no_grad()
    def text(self, frames: NDArray[np.float32]) -> str:
        """The most probable word of a clip's ``frames`` ``(n, mels)``."""
        return self.words[int(self(torch.from_numpy(frames)[None]).argmax())]


class _BaselineTask(Task):
    """What the tutorials' networks have in common: dev texts without a language model, and a
    file that is no checkpoint."""

    network: Transcriber | WordClassifier
    score_figure: str

    def __init__(self, network: Transcriber | WordClassifier, data: TrainingData) -> None:
        network.mean, network.deviation = frame_statistics(data.sources)
        self.network = network
        self.heads = (network.head,)
        self._data = data

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What :func:`load_baseline` must know to make the network again."""

    def score(self, average: dict[str, Tensor]) -> tuple[dict[str, float], list[Example]]:
        network = _make(self.about())
        network.load_state_dict(average)
        network.eval()
        figures: dict[str, float] = {}
        examples = []
        for corpus, store in self._data.dev:
            word, character = ErrorRate(), ErrorRate()
            for utterance in dev_part(store):
                heard = network.text(np.asarray(store.of(utterance), np.float32))
                examples.append(Example(corpus, utterance.text, heard))
                word.add(utterance.text.split(), heard.split())
                character.add(utterance.text, heard)
            figures |= {f"{corpus}_wer": word.rate, f"{corpus}_cer": character.rate}
        score = fmean(v for k, v in figures.items() if k.endswith(self.score_figure))
        return {**figures, "score": score}, examples

    def save(
        self,
        path: Path,
        average: dict[str, Tensor],
        provenance: dict[str, Any],
        figures: dict[str, float],
    ) -> None:
        about = {**self.about(), "provenance": provenance, "figures": figures}
        partial = path.with_suffix(".partial")
        tensors = {name: tensor.contiguous() for name, tensor in average.items()}
        save_file(tensors, partial, {FORMAT: json.dumps(about)})
        partial.replace(path)


class TranscriberTask(_BaselineTask):
    """CTC on characters."""

    figures = ("character_loss",)
    score_figure = "_cer"  # characters fall long before whole words are right

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        self._transcriber = Transcriber(SHAPES[config.network])
        super().__init__(self._transcriber, data)
        self._name = config.network

    def about(self) -> dict[str, Any]:
        return {"network": self._name, "shape": asdict(self._transcriber.shape)}

    def labels(self, utterances: Iterable[Utterance]) -> int:
        return sum(len(utterance.text) for utterance in utterances)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(batch.frames.device.type, dtype=torch.bfloat16):
            log_probs = self.network(batch.frames)
        loss = ctc_loss(
            log_probs.transpose(0, 1),
            batch.characters,
            -(-batch.frame_counts // self._transcriber.subsampling),
            batch.character_counts,
            reduction="sum",
            zero_infinity=True,
        )
        return loss, {"character_loss": loss.item()}


class WordClassifierTask(_BaselineTask):
    """Cross-entropy over the words of the training manifests, each clip one word."""

    figures = ("word_loss",)
    score_figure = "_wer"

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        words = sorted({u.text for source in data.sources for u in source.store.utterances})
        if len(words) > _MOST_WORDS:
            raise ConfigError(
                f"{WORD_CLASSIFIER} tells at most {_MOST_WORDS} texts apart, the manifests have"
                f" {len(words)}: give it clips of single words"
            )
        super().__init__(WordClassifier(words), data)
        self._index = {word: number for number, word in enumerate(words)}

    def about(self) -> dict[str, Any]:
        return {"network": WORD_CLASSIFIER, "words": list(self._index)}

    def labels(self, utterances: Iterable[Utterance]) -> int:
        return sum(1 for _ in utterances)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        classes = torch.tensor(
            [self._index[text] for text in batch.texts], device=batch.frames.device
        )
        loss = nll_loss(self.network(batch.frames), classes, reduction="sum")
        return loss, {"word_loss": loss.item()}


_MOST_WORDS = 1000


def _make(about: Mapping[str, Any]) -> Transcriber | WordClassifier:
    """An untrained network of the kind and shape that ``about`` says."""
    if about["network"] == WORD_CLASSIFIER:
        return WordClassifier(about["words"])
    return Transcriber(Shape(**about["shape"]))


def load_baseline(path: Path) -> Transcriber | WordClassifier | None:
    """The network in ``path`` in evaluation mode; None where the file is no baseline.

    Raises CheckpointError where it is one, but damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None  # whoever loads it as a checkpoint says what is wrong
    if about is None:
        return None
    try:
        network = _make(about)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"baseline {path} is damaged: {error}") from None
    return network.eval()
