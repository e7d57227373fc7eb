"""What a checkpoint says of its words, set right by recordings: ``streamasr calibrate``.

Two things are learned. How likely a word is right, by a logistic regression on what the
search knows of it (``decoder/confidence.py``). And, from another aligner's times, how much
later words begin and end than the network writes them: it is trained without times and is
free to write a word as soon as it knows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.decoder.confidence import features
from streamasr.errors import ConfigError
from streamasr.recognizer import Recognizer
from streamasr.training.error_rate import equal_pairs
from streamasr.training.tune import hear
from streamasr.training.watch import read_times

_NEWTON_STEPS = 50
_RIDGE = 1e-2


@dataclass(frozen=True, slots=True)
class CalibrateConfig:
    """What ``streamasr calibrate`` was asked; ``times`` is another aligner's file of word times
    (``watch.read_times``), without it the times stay as they are."""

    manifests: tuple[Path, ...]
    out: Path
    times: Path | None = None
    every: int = 1


def fit(rows: Sequence[tuple[float, float]], right: Sequence[bool]) -> tuple[float, float, float]:
    """Bias and weights of a logistic regression of ``right`` on ``rows``, by Newton's method."""
    inputs = np.column_stack([np.ones(len(rows)), np.array(rows)])
    wanted = np.array(right, float)
    weights = np.zeros(3)
    ridge = _RIDGE * np.eye(3)
    for _ in range(_NEWTON_STEPS):
        chances = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (wanted - chances) - ridge @ weights
        curvature = (inputs.T * (chances * (1 - chances))) @ inputs + ridge
        weights += np.linalg.solve(curvature, slope)
    bias, posterior, sureness = (round(float(weight), 4) for weight in weights)
    return bias, posterior, sureness


def calibrate(
    config: CalibrateConfig, model: ModelConfig, decoder: DecoderConfig
) -> dict[str, object]:
    """Write the checkpoint of ``model``, calibrated, to ``config.out``; returns what was set.

    Raises ConfigError for manifests that cannot be read or in which too little is recognised
    to learn from, and what ``Recognizer.load`` raises.
    """
    recognizer = Recognizer.load(model, decoder, EndpointConfig())
    times = {} if config.times is None else read_times(config.times)
    rows: list[tuple[float, float]] = []
    right: list[bool] = []
    shifts: list[tuple[float, float]] = []
    heard = [one for path in config.manifests for one in hear(recognizer, path, config.every)]
    for one in heard:
        words = recognizer.search.decode(one.log_probs)[0].words
        said = one.said.split()
        pairs = {place: at for at, place in equal_pairs(said, [w.word for w in words])}
        for place, word in enumerate(words):
            if word.posterior is not None:
                rows.append(features(word.posterior, word.sureness))
                right.append(place in pairs)
        placed = times.get(one.path, [])
        if [each.word for each in placed] == said:
            shifts += [
                (
                    placed[at].start_seconds - words[place].first_step * recognizer.step_seconds,
                    placed[at].end_seconds - words[place].end_step * recognizer.step_seconds,
                )
                for place, at in pairs.items()
            ]
    if all(right) or not any(right):
        raise ConfigError("calibrating takes words that are right and words that are wrong")
    if config.times is not None and not shifts:
        raise ConfigError(f"{config.times} has none of the recordings of the manifests")
    checkpoint = load_checkpoint(model.checkpoint or shipped("checkpoints", "english.safetensors"))
    start, end = checkpoint.word_shift_seconds
    if shifts:
        start, end = (round(float(each), 2) for each in np.median(np.array(shifts), axis=0))
    calibrated = replace(checkpoint, confidence=fit(rows, right), word_shift_seconds=(start, end))
    calibrated.save(config.out)
    return {
        "words": len(rows),
        "confidence": calibrated.confidence,
        "timed_words": len(shifts),
        "word_shift_seconds": calibrated.word_shift_seconds,
    }
