"""The network as the recognizer sees it: numpy in, numpy out, state as a value."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.acoustic.checkpoint import Checkpoint
from streamasr.acoustic.gru import NetworkState, Output

Frames = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class AcousticState:
    """What the network remembers of one stream; never changed in place."""

    network: NetworkState

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AcousticState) and all(
            torch.equal(mine, others)
            for mine, others in zip(self._tensors(), other._tensors(), strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def size_bytes(self) -> int:
        """The memory that the state takes; the same at every moment of every stream."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    def _tensors(self) -> list[torch.Tensor]:
        return [self.network.frames, *self.network.convs, self.network.hidden]


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Natural logs of both heads: ``phones`` ``(steps, phone labels)`` and ``characters``
    ``(steps, character labels)``, float32."""

    phones: NDArray[np.float32]
    characters: NDArray[np.float32]


class AcousticModel:
    """A checkpoint's network; shared by every stream, immutable.

    Runs on one thread: a step reads every weight once, so that a second thread waits for
    the same memory (DESIGN.md, "One thread").
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        torch.set_num_threads(1)
        self._network = checkpoint.network
        self.subsampling = checkpoint.network.config.subsampling
        self.lookahead_steps = checkpoint.network.config.lookahead_steps
        self._start = AcousticState(self._network.initial_state())

    def start(self) -> AcousticState:
        """The state of a stream that has heard nothing."""
        return self._start

    def step(self, frames: Frames, state: AcousticState) -> tuple[LogProbs, AcousticState]:
        """Hear ``(n * subsampling, mels)`` frames: ``n`` steps, late by ``lookahead_steps``."""
        with torch.inference_mode():
            output, network = self._network.step(torch.from_numpy(frames)[None], state.network)
        return _to_numpy(output), AcousticState(network)

    def forward(self, frames: Frames) -> LogProbs:
        """A whole recording ``(T, mels)``, offline, with the look-ahead taken out."""
        with torch.inference_mode():
            return _to_numpy(self._network(torch.from_numpy(frames)[None]))


def _to_numpy(output: Output) -> LogProbs:
    return LogProbs(output.phones[0].numpy(), output.characters[0].numpy())
