"""One file holds all that the acoustic network needs, and refuses to be misused.

The file is safetensors: the weights as float16, and in its metadata under ``streamasr``
one JSON object: format version, feature settings, network shape, the labels of both
heads, where the weights come from and what they were measured to do. Nothing in it is
executable.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from streamasr.acoustic.gru import GruCtc, NetworkConfig
from streamasr.config import FeatureConfig
from streamasr.errors import CheckpointError

FORMAT = 1
_Settings = TypeVar("_Settings", FeatureConfig, NetworkConfig)


@dataclass(frozen=True)
class Checkpoint:
    """A network and what must be known to use it.

    ``phone_labels`` and ``character_labels`` name the outputs of the two heads, blank
    first. ``provenance`` says what the weights were trained on, ``figures`` what was
    measured with them. ``confidence`` turns what the search knows of a word into the chance
    that it is right, ``word_shift_seconds`` how much later words begin and end than the network
    writes them; see ``streamasr calibrate``.
    """

    network: GruCtc
    features: FeatureConfig
    phone_labels: tuple[str, ...]
    character_labels: tuple[str, ...]
    name: str
    provenance: dict[str, Any]
    figures: dict[str, Any]
    confidence: tuple[float, float, float] = (0.0, 1.0, 0.0)
    word_shift_seconds: tuple[float, float] = (0.0, 0.0)

    def save(self, path: Path) -> None:
        """Write ``path`` in one go: an interrupted save leaves the old file as it was."""
        description = {
            "format": FORMAT,
            "name": self.name,
            "features": asdict(self.features),
            "network": asdict(self.network.config),
            "phone_labels": self.phone_labels,
            "character_labels": self.character_labels,
            "provenance": self.provenance,
            "figures": self.figures,
            "confidence": self.confidence,
            "word_shift_seconds": self.word_shift_seconds,
        }
        weights = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        partial = path.with_suffix(".partial")
        save_file(weights, partial, {"streamasr": json.dumps(description)})
        partial.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``path`` into a float32 network in evaluation mode.

    Raises CheckpointError where the file is missing, damaged, of another format, or
    where weights and description disagree.
    """
    with _one_thread():
        return _load(path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Where another program has the other core, each small copy of a weight would wait for a
    second thread: 0.6 s for 0.1 s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _load(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint {path} does not exist; leave [model] checkpoint out to use the shipped one"
        ) from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or not safetensors: {error}") from None
    if "streamasr" not in metadata:
        raise CheckpointError(f"checkpoint {path} is safetensors, but not made by streamasr")
    try:
        description = json.loads(metadata["streamasr"])
        found = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} has a damaged description: {error}") from None
    if found != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {found}, this version reads {FORMAT}: train it anew"
            " or use the streamasr that made it"
        )
    try:
        features = _settings(FeatureConfig, description["features"])
        shape = _settings(NetworkConfig, description["network"])
        phone_labels = tuple(description["phone_labels"])
        character_labels = tuple(description["character_labels"])
        name, provenance, figures = (description[k] for k in ("name", "provenance", "figures"))
        bias, posterior, sureness = map(float, description.get("confidence", (0.0, 1.0, 0.0)))
        start, end = map(float, description.get("word_shift_seconds", (0.0, 0.0)))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} has a damaged description: {error}") from None
    _compare(path, "mel bands", features.mels, shape.mels)
    _compare(path, "phone labels", len(phone_labels), shape.phone_labels)
    _compare(path, "character labels", len(character_labels), shape.character_labels)
    network = GruCtc(shape)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"checkpoint {path} does not fit its own description: {first}"
        ) from None
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise CheckpointError(f"checkpoint {path} holds weights that are not finite")
    network.eval().requires_grad_(False)
    return Checkpoint(
        network,
        features,
        phone_labels,
        character_labels,
        name,
        provenance,
        figures,
        (bias, posterior, sureness),
        (start, end),
    )


def _settings(kind: type[_Settings], values: dict[str, Any]) -> _Settings:
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise KeyError(f"unknown {kind.__name__} {sorted(unknown)}")
    return kind(**values)


def _compare(path: Path, what: str, described: int, shaped: int) -> None:
    if described != shaped:
        raise CheckpointError(
            f"checkpoint {path} names {described} {what}, but its network has {shaped}"
        )
