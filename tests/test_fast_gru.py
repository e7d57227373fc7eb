import pytest
import torch

from streamasr.training.fast_gru import FastGru


@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 17, 8)])
def test_outputs_and_gradients_are_those_of_pytorch(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    width = shape[-1]
    theirs = torch.nn.GRU(width, width, batch_first=True).double()
    ours = FastGru(width, width, batch_first=True).double()
    ours.load_state_dict(theirs.state_dict())
    x, weight = torch.randn(shape).double(), torch.randn(shape).double()
    hidden = torch.randn(1, shape[0], width).double()
    results = []
    for gru in (theirs, ours):
        inputs, first = x.clone().requires_grad_(), hidden.clone().requires_grad_()
        outputs, last = gru(inputs, first)
        ((outputs * weight).sum() + last.sum()).backward()
        results.append(
            [outputs, last, inputs.grad, first.grad, *(p.grad for p in gru.parameters())]
        )
    for their, our in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)
