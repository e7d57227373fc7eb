"""Muon: steps for weight matrices whose every direction is equally long.

The momentum of a matrix is replaced by the nearest orthogonal matrix, found by a few
Newton-Schulz iterations (Jordan et al., "Muon: an optimizer for hidden layers", 2024), and
scaled to the root mean square that an AdamW step would have (Liu et al., "Muon is scalable
for LLM training", 2025), so both share a learning rate. ``torch.optim.Muon`` takes matrices
only; here the gates of a GRU are matrices of their own and a convolution is one matrix, and
the processes of a run divide the work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamasr.training.processes import Group

_RMS_OF_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Parameters of two or more dimensions; ``(gates * width, inputs)`` are ``gates`` matrices
    where ``nn.GRU`` made them."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        learning_rate: float = 0.0,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        group: Group | None = None,
    ) -> None:
        defaults = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(parameters), defaults)
        self._group = group or Group()

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            directions = []
            for index, parameter in enumerate(group["params"]):
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                if index % self._group.size == self._group.rank:
                    ahead = parameter.grad.lerp(average, group["momentum"])  # Nesterov
                    directions.append(orthogonal(ahead))
                else:
                    directions.append(torch.zeros_like(parameter))
            if self._group.size > 1:
                flat = torch.cat([direction.flatten() for direction in directions])
                self._group.add_up(flat)
                sizes = [direction.numel() for direction in directions]
                directions = [
                    part.view_as(direction)
                    for part, direction in zip(torch.split(flat, sizes), directions, strict=True)
                ]
            for parameter, direction in zip(group["params"], directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(direction, alpha=-group["lr"])


def orthogonal(matrix: Tensor, gates: int = 3) -> Tensor:
    """The nearest (semi-)orthogonal matrix of each gate of ``matrix``, scaled; five
    iterations in bf16."""
    rows, columns = matrix.shape[0], matrix[0].numel()
    blocks = gates if matrix.dim() == 2 and rows == gates * columns else 1
    x = matrix.reshape(blocks, rows // blocks, columns).bfloat16()
    wide = x if x.shape[1] <= x.shape[2] else x.transpose(1, 2)
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = wide @ wide.transpose(1, 2)
        polynomial = -4.7750 * gram + 2.0315 * (gram @ gram)
        wide = 3.4445 * wide + polynomial @ wide
    scale = _RMS_OF_ADAMW * max(wide.shape[1:]) ** 0.5
    x = wide if x.shape[1] <= x.shape[2] else wide.transpose(1, 2)
    result: Tensor = (scale * x.float()).reshape(matrix.shape)
    return result
