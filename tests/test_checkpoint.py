import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from streamasr.acoustic.checkpoint import Checkpoint, load_checkpoint
from streamasr.acoustic.gru import GruCtc, NetworkConfig
from streamasr.config import DecoderConfig, EndpointConfig, FeatureConfig, ModelConfig, shipped
from streamasr.decoder.alphabet import CHARACTER_ALPHABET, PHONE_ALPHABET
from streamasr.errors import CheckpointError
from streamasr.recognizer import Recognizer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    torch.manual_seed(0)
    Checkpoint(
        GruCtc(NetworkConfig(width=16, conv_layers=1, gru_layers=1)),
        FeatureConfig(),
        PHONE_ALPHABET.labels,
        CHARACTER_ALPHABET.labels,
        "small",
        {"corpora": ["none"]},
        {"wer": 1.0},
    ).save(path)
    return path


def describe(path: Path, **changes: object) -> None:
    """Write ``path`` again with a changed description."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["streamasr"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, path, {"streamasr": json.dumps(description | changes)})


def test_everything_comes_back(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    assert checkpoint.name == "small"
    assert checkpoint.features == FeatureConfig()
    assert checkpoint.phone_labels == PHONE_ALPHABET.labels
    assert checkpoint.character_labels == CHARACTER_ALPHABET.labels
    assert checkpoint.provenance == {"corpora": ["none"]}
    assert checkpoint.figures == {"wer": 1.0}
    again = path.with_name("again.safetensors")
    checkpoint.save(again)
    for mine, theirs in zip(
        checkpoint.network.state_dict().values(),
        load_checkpoint(again).network.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_the_shipped_checkpoint_says_where_it_comes_from() -> None:
    path = shipped("checkpoints", "english.safetensors")
    checkpoint = load_checkpoint(path)
    assert path.stat().st_size <= 30e6
    assert checkpoint.phone_labels == PHONE_ALPHABET.labels
    assert checkpoint.character_labels == CHARACTER_ALPHABET.labels
    assert checkpoint.provenance["manifests"]
    config = checkpoint.network.config
    assert config.lookahead_steps * config.subsampling * 10 <= 320


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, 5000, -1])
def test_a_truncated_file_is_refused(path: Path, kept_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 99}, "format 99"),
        ({"phone_labels": ["<blank>", "AA"]}, "phone labels"),
        ({"character_labels": ["<blank>"]}, "character labels"),
        ({"features": {"mels": 40}}, "mel bands"),
        ({"features": {"mel": 80}}, "unknown FeatureConfig"),
        ({"network": {"width": 32, "conv_layers": 1, "gru_layers": 1}}, "own description"),
    ],
)
def test_a_mismatch_is_named(path: Path, changes: dict[str, object], named: str) -> None:
    describe(path, **changes)
    with pytest.raises(CheckpointError, match=named) as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_safetensors_from_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not made by streamasr"):
        load_checkpoint(path)


def test_weights_that_are_not_finite_are_refused(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights["mean"][0] = torch.nan
    save_file(weights, path, metadata)
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(path)


def test_another_alphabet_is_refused_by_the_recognizer(path: Path) -> None:
    labels = [f"{label}0" if label == "AA" else label for label in PHONE_ALPHABET.labels]
    describe(path, phone_labels=labels)
    with pytest.raises(CheckpointError, match="another alphabet"):
        Recognizer.load(ModelConfig(checkpoint=path), DecoderConfig(), EndpointConfig())
