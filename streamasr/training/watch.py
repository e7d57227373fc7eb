"""``streamasr live``: recordings through the streaming path, watched as a viewer would.

::

    recording ─ watch ───────→ events with audio times ─┐
    reference ─ place_words ─→ words with audio times ──┴→ LiveMeasures ─→ LiveFigures

Without a file of times the network itself says where the words of the reference lie: a forced
alignment. It cannot tell how early or late the network writes all words. A file of another
aligner can.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoder.lexicon import Lexicon
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.recognizer import Recognizer
from streamasr.training.align import align
from streamasr.training.confidence import draw_reliability, reliability
from streamasr.training.evaluate import PACKET_SECONDS
from streamasr.training.live import LiveFigures, LiveMeasures, SaidWord, Shown
from streamasr.training.log import report_skipped
from streamasr.training.manifest import Recording, Samples, read_manifest, read_samples

TIMES_COLUMNS = ("path", "word", "start_seconds", "end_seconds")

_AFTER_ENDPOINT_SECONDS = 0.7  # look-ahead, a chunk and a packet


def watch(recognizer: Recognizer, samples: Samples) -> list[Shown]:
    """The events of a stream that hears ``samples`` in packets.

    Digital silence follows, until the endpoint: a live stream does not end with its last word,
    and words that only its end brought out would look as if they had come at once.
    """
    rate_hz = recognizer.sample_rate_hz
    silence_seconds = recognizer.endpoint.silence_after_words_seconds + _AFTER_ENDPOINT_SECONDS
    samples = np.concatenate([samples, np.zeros(round(silence_seconds * rate_hz), np.float32)])
    packet = round(PACKET_SECONDS * rate_hz)
    stream = recognizer.stream()
    shown = []
    for first in range(0, len(samples), packet):
        fed_seconds = min(first + packet, len(samples)) / rate_hz
        shown += [
            Shown(fed_seconds, event) for event in stream.feed(samples[first : first + packet])
        ]
    return shown + [Shown(len(samples) / rate_hz, event) for event in stream.finish()]


def place_words(
    recognizer: Recognizer, samples: Samples, words: Sequence[str], lexicon: Lexicon
) -> list[SaidWord]:
    """Where ``words`` lie in ``samples``, by forced alignment with the recognizer's network.

    Raises ValueError where a word is not in ``lexicon`` or the words do not fit.
    """
    missing = [word for word in words if word not in lexicon]
    if missing:
        raise ValueError(f"the lexicon lacks {', '.join(missing)}")
    log_probs = recognizer.acoustic.forward(recognizer.logmel(samples)).phones
    step_seconds = recognizer.step_seconds
    start_shift, end_shift = recognizer.word_shift_seconds
    placed = align(log_probs, words, lexicon)
    starts = [each.first_step * step_seconds + start_shift for each in placed]
    ends = [each.end_step * step_seconds + end_shift for each in placed]
    following = [*starts, math.inf][1:]
    return [
        SaidWord(word, start, min(end, after))
        for word, start, end, after in zip(words, starts, ends, following, strict=True)
    ]


def read_times(path: Path) -> dict[Path, list[SaidWord]]:
    """Words by their recording, from a TSV file with ``TIMES_COLUMNS`` and a line a word, in the
    order in which they were said; recordings are relative to the file.

    Raises ConfigError where the file cannot be read or a line is not like that.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"times {path} cannot be read: {error}") from None
    if tuple(header.split("\t")) != TIMES_COLUMNS:
        raise ConfigError(
            f"times {path} must begin with the header line {' '.join(TIMES_COLUMNS)}, tab-separated"
        )
    folder = path.resolve().parent
    times: dict[Path, list[SaidWord]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            name, word, start, end = line.split("\t")
            said = SaidWord(word, float(start), float(end))
        except ValueError:
            raise ConfigError(
                f"{path}:{number}: must be {' '.join(TIMES_COLUMNS)}, tab-separated"
            ) from None
        times.setdefault(folder / name, []).append(said)
    return times


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """What ``streamasr live`` was asked: every ``every``-th recording, the first ``limit`` of
    those, all if None; ``times`` of the words by another aligner; ``reliability`` is the
    picture to write."""

    manifest: Path
    times: Path | None = None
    limit: int | None = None
    every: int = 1
    reliability: Path | None = None


def watch_manifest(
    config: LiveConfig, model: ModelConfig, decoder: DecoderConfig, endpoint: EndpointConfig
) -> LiveFigures:
    """``streamasr live``; what is skipped or cannot be placed is named on stderr.

    Raises ConfigError for files that cannot be read or written and where no recording can be
    decoded, and what ``Recognizer.load`` raises.
    """
    if config.every < 1 or (config.limit is not None and config.limit < 1):
        raise ConfigError("--every and --limit must be at least 1")
    manifest = read_manifest(config.manifest)
    times = None if config.times is None else read_times(config.times)
    recognizer = Recognizer.load(model, decoder, endpoint)
    recordings = manifest.recordings[:: config.every][: config.limit]
    console = Console(stderr=True)
    measures = LiveMeasures()
    unreadable: list[str] = []
    unplaced: list[str] = []
    audio_seconds = 0.0
    for recording in track(recordings, "live", console=console):
        try:
            samples = read_samples(recording.path, recognizer.sample_rate_hz)
        except AudioFormatError as error:
            unreadable.append(str(error))
            continue
        words = recording.text.split()
        try:
            if times is None:
                said = place_words(recognizer, samples, words, recognizer.lexicon)
            else:
                said = _known(times, recording)
        except ValueError as error:
            said = [SaidWord(word) for word in words]
            unplaced.append(f"{recording.path}: no times of its words: {error}")
        measures.add(watch(recognizer, samples), said)
        audio_seconds += len(samples) / recognizer.sample_rate_hz
    skipped = (*manifest.skipped, *unreadable)
    report_skipped(skipped)
    for reason in unplaced:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    if len(unreadable) == len(recordings):
        raise ConfigError("none of the recordings can be decoded")
    if config.reliability is not None:
        confidences, right = np.array(measures.confidences), np.array(measures.right, np.bool_)
        draw_reliability(reliability(confidences, right), config.reliability)
    return measures.figures(
        recordings=len(recordings) - len(unreadable),
        skipped=len(skipped),
        audio_seconds=audio_seconds,
    )


def _known(times: dict[Path, list[SaidWord]], recording: Recording) -> list[SaidWord]:
    """Raises ValueError where ``times`` lacks the recording or has other words."""
    if recording.path not in times:
        raise ValueError("the file of times lacks it")
    said = times[recording.path]
    if [each.word for each in said] != recording.text.split():
        raise ValueError("the file of times has other words")
    return said
