import pytest
import torch
from torch import nn

from streamasr.training.optimizer import Muon, orthogonal


@pytest.mark.parametrize("shape", [(48, 48), (40, 24), (24, 40), (144, 48), (48, 16, 5)])
def test_every_direction_of_a_step_is_about_equally_long(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    gates = 3 if shape == (144, 48) else 1
    step = orthogonal(torch.randn(shape)).reshape(gates, shape[0] // gates, -1)
    for gate in step:
        lengths = torch.linalg.svdvals(gate)
        assert lengths.max() < 2 * lengths.min() + 0.3
    assert step.pow(2).mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_a_matrix_takes_the_steps_that_torch_would_take() -> None:
    torch.manual_seed(0)
    target = torch.randn(32, 20)
    ours, theirs = (nn.Parameter(torch.zeros(32, 20)) for _ in range(2))
    optimizers = (
        (ours, Muon([ours], learning_rate=0.02, weight_decay=0.1)),
        (
            theirs,
            torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        ),
    )
    for parameter, optimizer in optimizers:
        for _ in range(20):
            parameter.grad = (parameter.detach() - target).clone()
            optimizer.step()
    assert (ours - theirs).abs().max() < 0.02
    assert (ours - target).norm() < 0.95 * target.norm()
