"""The two tests for anything with memory, and a few of shape."""

import itertools

import pytest
import torch

from streamasr.acoustic.gru import GruCtc, NetworkConfig, NetworkState, Output

CONFIG = NetworkConfig(width=32, conv_layers=2, gru_layers=2)


@pytest.fixture(scope="module")
def network() -> GruCtc:
    torch.manual_seed(0)
    network = GruCtc(CONFIG).eval().requires_grad_(False)
    network.mean = torch.randn(80)
    network.deviation = torch.rand(80) + 0.5
    network.silence = torch.full((80,), -13.8)
    return network


def stream(network: GruCtc, frames: torch.Tensor, chunk: int) -> Output:
    """The outputs of every chunk and of as much silence as offline decoding adds."""
    batch, count, mels = frames.shape
    steps = network.steps(count) + CONFIG.lookahead_steps
    padded = -(-steps * CONFIG.subsampling // chunk) * chunk
    tail = network.silence.expand(batch, padded - count, mels)
    state = network.initial_state(batch)
    outputs = []
    for part in torch.cat([frames, tail], dim=1).split(chunk, dim=1):
        output, state = network.step(part, state)
        outputs.append(output)
    return Output(
        *(
            torch.cat(heads, 1)[:, CONFIG.lookahead_steps : steps]
            for heads in zip(*outputs, strict=True)
        )
    )


@pytest.mark.parametrize("chunk", [4, 8, 16, 64])
@pytest.mark.parametrize("count", [1, 63, 64, 203])
def test_streaming_equals_offline(network: GruCtc, chunk: int, count: int) -> None:
    frames = torch.randn(1, count, 80)
    for ours, theirs in zip(stream(network, frames, chunk), network(frames), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 1e-4


def test_the_future_changes_no_output_before_the_lookahead(network: GruCtc) -> None:
    frames = torch.randn(1, 200, 80)
    before = network(frames)
    for t in (0, 57, 120, 199):
        changed = frames.clone()
        changed[0, t] += 1
        after = network(changed)
        first = max(0, t // CONFIG.subsampling - CONFIG.lookahead_steps)
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[:, :first], new[:, :first])
            assert not torch.equal(old[:, first:], new[:, first:])


def test_the_lookahead_is_short() -> None:
    assert NetworkConfig().lookahead_steps * NetworkConfig().subsampling * 10 <= 320


def test_a_batch_gives_what_each_gives_alone(network: GruCtc) -> None:
    frames = torch.randn(3, 100, 80)
    together = network(frames)
    for row in range(3):
        for batched, single in zip(together, network(frames[row : row + 1]), strict=True):
            assert (batched[row] - single[0]).abs().max() < 1e-4


def test_padding_with_silence_changes_nothing(network: GruCtc) -> None:
    frames = torch.randn(1, 80, 80)
    padded = torch.cat([frames, network.silence.expand(1, 40, 80)], dim=1)
    for short, long in zip(network(frames), network(padded), strict=True):
        assert (short - long[:, : short.shape[1]]).abs().max() < 1e-5


def test_step_leaves_the_state_it_was_given(network: GruCtc) -> None:
    state = network.initial_state()
    copies = NetworkState(
        state.frames.clone(), tuple(c.clone() for c in state.convs), state.hidden.clone()
    )
    network.step(torch.randn(1, 16, 80), state)
    assert torch.equal(state.frames, copies.frames)
    assert torch.equal(state.hidden, copies.hidden)
    assert all(itertools.starmap(torch.equal, zip(state.convs, copies.convs, strict=True)))


def test_outputs_are_log_probabilities(network: GruCtc) -> None:
    for head in network(torch.randn(2, 40, 80)):
        assert torch.allclose(head.exp().sum(-1), torch.ones(head.shape[:2]), atol=1e-5)
