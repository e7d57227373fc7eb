"""The acoustic network: a unidirectional GRU with two CTC heads.

::

    log-mel frames (10 ms)
      | normalise by the corpus statistics that travel with the weights
      | subsample: one strided convolution over this step's frames and the step's before
      v
    steps (40 ms)
      | conv_layers x  [layer norm -> causal convolution over 3 steps -> ReLU] + residual
      | gru_layers  x  [layer norm -> GRU] + residual
      | layer norm
      +--> phone head       (blank, 39 phones, the same as last ones of a word)
      +--> character head   (blank, a-z, apostrophe, space)

Every layer is strictly causal. Look-ahead comes from reading the answer for step *s*
only after ``lookahead_steps`` further steps have gone in (the delayed output of Graves
and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM", 2005,
section 3.2): the first ``lookahead_steps`` outputs of a stream belong to no audio and
are dropped, and after the last frame as many steps of digital silence are fed. So
nothing but the count of steps distinguishes streaming from offline, and output *s*
depends on frames before ``(s + 1 + lookahead_steps) * subsampling`` alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of the network; stored in the checkpoint."""

    mels: int = 80
    subsampling: int = 4
    width: int = 512
    conv_layers: int = 2
    gru_layers: int = 3
    lookahead_steps: int = 7
    phone_labels: int = 79
    character_labels: int = 29


class NetworkState(NamedTuple):
    """What the network remembers between steps, for a batch of B streams.

    ``frames`` ``(B, subsampling, mels)``, normalised; ``convs`` one ``(B, 2, width)`` a
    convolution; ``hidden`` ``(gru_layers, B, width)``. Its size never changes.
    """

    frames: Tensor
    convs: tuple[Tensor, ...]
    hidden: Tensor


class Output(NamedTuple):
    """Natural-log probabilities of both heads: ``(B, steps, labels)`` each."""

    phones: Tensor
    characters: Tensor


_CONV_STEPS = 3


class GruCtc(nn.Module):
    """See the module's docstring. ``mean``, ``deviation`` and ``silence`` are ``(mels,)``:
    the training corpus' statistics and the frame of digital silence."""

    mean: Tensor
    deviation: Tensor
    silence: Tensor

    def __init__(self, config: NetworkConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("mean", torch.zeros(config.mels))
        self.register_buffer("deviation", torch.ones(config.mels))
        self.register_buffer("silence", torch.zeros(config.mels))
        self.subsample = nn.Conv1d(
            config.mels, width, 2 * config.subsampling, stride=config.subsampling
        )
        self.conv_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.conv_layers))
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, _CONV_STEPS) for _ in range(config.conv_layers)
        )
        self.gru_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.gru_layers))
        self.grus = nn.ModuleList(
            nn.GRU(width, width, batch_first=True) for _ in range(config.gru_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.phone_head = nn.Linear(width, config.phone_labels)
        self.character_head = nn.Linear(width, config.character_labels)
        self.dropout = nn.Dropout(dropout)

    def steps(self, frames: int) -> int:
        """How many steps ``frames`` frames give; a last, incomplete step counts."""
        return -(-frames // self.config.subsampling)

    def initial_state(self, batch: int = 1) -> NetworkState:
        """The state of ``batch`` streams that have heard nothing but digital silence."""
        config = self.config
        silence = (self.silence - self.mean) / self.deviation
        return NetworkState(
            silence.expand(batch, config.subsampling, -1).contiguous(),
            tuple(
                silence.new_zeros(batch, _CONV_STEPS - 1, config.width)
                for _ in range(config.conv_layers)
            ),
            silence.new_zeros(config.gru_layers, batch, config.width),
        )

    def step(self, frames: Tensor, state: NetworkState) -> tuple[Output, NetworkState]:
        """Advance by ``frames`` ``(B, n * subsampling, mels)``: ``n`` steps of both heads.

        The outputs are delayed by ``lookahead_steps``; the caller drops the first ones.
        """
        normal = (frames - self.mean) / self.deviation
        window = torch.cat([state.frames, normal], dim=1)
        x = torch.relu(self.subsample(window.transpose(1, 2))).transpose(1, 2)
        convs = []
        for norm, conv, past in zip(self.conv_norms, self.convs, state.convs, strict=True):
            window_steps = torch.cat([past, norm(x)], dim=1)
            convs.append(window_steps[:, -(_CONV_STEPS - 1) :])
            y = conv(window_steps.transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(torch.relu(y))
        hidden = []
        for layer, (norm, gru) in enumerate(zip(self.gru_norms, self.grus, strict=True)):
            y, last = gru(norm(x), state.hidden[layer : layer + 1].contiguous())
            hidden.append(last)
            x = x + self.dropout(y)
        x = self.norm(x)
        output = Output(
            self.phone_head(x).float().log_softmax(-1),
            self.character_head(x).float().log_softmax(-1),
        )
        subsampling = self.config.subsampling
        return output, NetworkState(normal[:, -subsampling:], tuple(convs), torch.cat(hidden))

    def forward(self, frames: Tensor) -> Output:
        """Whole recordings: ``(B, T, mels)`` to ``steps(T)`` steps of both heads.

        Shorter recordings in a batch must be padded with ``silence`` on the right, which
        leaves their outputs as they would be alone.
        """
        config = self.config
        batch, count, _ = frames.shape
        padded = (self.steps(count) + config.lookahead_steps) * config.subsampling
        tail = self.silence.expand(batch, padded - count, -1)
        output, _ = self.step(torch.cat([frames, tail], dim=1), self.initial_state(batch))
        return Output(*(head[:, config.lookahead_steps :] for head in output))


def parameter_count(network: nn.Module) -> int:
    """How many trained numbers the network has."""
    return sum(parameter.numel() for parameter in network.parameters())
