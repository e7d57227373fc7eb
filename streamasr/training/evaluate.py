"""Word and character error rates of a manifest, through the streaming path or offline."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from streamasr.config import DecoderConfig, EndpointConfig, FeatureConfig, ModelConfig, shipped
from streamasr.decoder.alphabet import CHARACTER_ALPHABET
from streamasr.decoder.characters import CharacterSearch, greedy_text
from streamasr.decoder.expected import read_phrases
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.loading import load_language_model
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.events import Final
from streamasr.frontend.logmel import LogMel
from streamasr.recognizer import Recognizer
from streamasr.training.baselines import Transcriber, WordClassifier, load_baseline
from streamasr.training.error_rate import ErrorRate
from streamasr.training.log import report_skipped
from streamasr.training.manifest import Recording, Samples, read_manifest, read_samples
from streamasr.training.noise import Noise

PACKET_SECONDS = 0.1
_SAMPLE_RATE_HZ = FeatureConfig().sample_rate_hz


@dataclass(frozen=True, slots=True)
class Reading:
    """What was heard in a recording; ``greedy`` is the best path of the characters, with
    neither lexicon nor language model. ``wait_seconds`` is the part of ``compute_seconds``
    that came after the last sample."""

    text: str
    greedy: str
    compute_seconds: float
    wait_seconds: float


Reader = Callable[[Samples], Reading]
"""Makes a reading of a whole recording at 16 kHz."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What ``streamasr evaluate`` prints.

    ``wer``, ``cer`` and ``accuracy`` (whole utterances right) are of the decoded text,
    ``greedy_wer`` and ``greedy_cer`` of the characters' best path. Rates are errors over
    the reference's length. ``rtf`` is seconds of computing a second of audio, greedy path
    left out; ``latency_ms`` the median time from a recording's last sample to its last
    word. ``phrase_recall`` is the share of the phrases that were looked for, where they were
    said, that were heard. ``skipped`` counts lines and recordings that could not be read, of
    noise too.
    """

    wer: float
    cer: float
    greedy_wer: float
    greedy_cer: float
    accuracy: float
    utterances: int
    skipped: int
    audio_seconds: float
    rtf: float
    latency_ms: float
    phrase_recall: float | None = None

    def as_json(self) -> dict[str, float]:
        """Plain numbers under the names above, without those that were not measured."""
        return {name: figure for name, figure in asdict(self).items() if figure is not None}


def streaming_reader(recognizer: Recognizer) -> Reader:
    """Feeds a recording in packets, as a client would send it."""
    packet = round(PACKET_SECONDS * recognizer.sample_rate_hz)

    def read(samples: Samples) -> Reading:
        stream = recognizer.stream()
        events = []
        started = time.perf_counter()
        for first in range(0, len(samples), packet):
            events += stream.feed(samples[first : first + packet])
        heard = time.perf_counter()
        events += stream.finish()
        ended = time.perf_counter()
        text = " ".join(event.text for event in events if isinstance(event, Final))
        characters = recognizer.acoustic.forward(recognizer.logmel(samples)).characters
        return Reading(text, greedy_text(characters), ended - started, ended - heard)

    return read


def offline_reader(recognizer: Recognizer) -> Reader:
    """Hears the whole recording at once, without endpoints."""

    def read(samples: Samples) -> Reading:
        started = time.perf_counter()
        log_probs = recognizer.acoustic.forward(recognizer.logmel(samples))
        text = recognizer.search.decode(recognizer.head(log_probs))[0].text
        seconds = time.perf_counter() - started
        return Reading(text, greedy_text(log_probs.characters), seconds, seconds)

    return read


def baseline_reader(
    network: Transcriber | WordClassifier, model: ModelConfig, decoder: DecoderConfig
) -> Reader:
    """A tutorial's network over a whole recording: characters decoded with pyctcdecode and the
    language model, or the classifier's word. Raises LanguageModelError."""
    logmel = LogMel(FeatureConfig(mels=len(network.mean)))
    torch.set_num_threads(1)  # as the streaming network has

    if isinstance(network, WordClassifier):

        def read_word(samples: Samples) -> Reading:
            started = time.perf_counter()
            word = network.text(logmel(samples))
            seconds = time.perf_counter() - started
            return Reading(word, word, seconds, seconds)

        return read_word

    language_model = load_language_model(model) if model.use_language_model else None
    words = list(Lexicon.load(model.lexicon or shipped("lm", "lexicon.txt.xz")))
    search = CharacterSearch(CHARACTER_ALPHABET, language_model, words, decoder)

    def read(samples: Samples) -> Reading:
        started = time.perf_counter()
        log_probs = network.log_probs(logmel(samples))
        text = search.decode(log_probs)[0].text
        seconds = time.perf_counter() - started
        return Reading(text, greedy_text(log_probs), seconds, seconds)

    return read


def evaluate(
    reader: Reader,
    recordings: Sequence[Recording],
    *,
    noise: Noise | None = None,
    quiet_seconds: float = 0.0,
    skipped: Sequence[str] = (),
    show: bool = False,
    phrases: Sequence[str] = (),
) -> Figures:
    """Read ``recordings`` one after the other, after ``quiet_seconds`` of silence, with ``noise``
    mixed into both. ``show`` prints said and heard, ``phrases`` are looked for in both. What is
    ``skipped``, here or before, is named on stderr and counted.

    Raises ConfigError where no recording can be decoded.
    """
    console = Console(stderr=True)
    words, characters = ErrorRate(), ErrorRate()
    greedy_words, greedy_characters = ErrorRate(), ErrorRate()
    reasons = list(skipped)
    waits: list[float] = []
    right = said_phrases = heard_phrases = 0
    audio_seconds = compute_seconds = 0.0
    quiet = np.zeros(round(quiet_seconds * _SAMPLE_RATE_HZ), np.float32)
    for number, recording in enumerate(
        track(recordings, "evaluate", disable=show, console=console)
    ):
        try:
            samples = read_samples(recording.path, _SAMPLE_RATE_HZ)
        except AudioFormatError as error:
            reasons.append(str(error))
            continue
        samples = np.concatenate([quiet, samples])
        reading = reader(samples if noise is None else noise.mix(samples, number))
        compute_seconds += reading.compute_seconds
        waits.append(reading.wait_seconds)
        audio_seconds += len(samples) / _SAMPLE_RATE_HZ
        words.add(recording.text.split(), reading.text.split())
        characters.add(recording.text, reading.text)
        greedy_words.add(recording.text.split(), reading.greedy.split())
        greedy_characters.add(recording.text, reading.greedy)
        right += recording.text == reading.text
        said, heard = f" {recording.text} ", f" {reading.text} "
        spoken = [phrase for phrase in phrases if f" {phrase} " in said]
        said_phrases += len(spoken)
        heard_phrases += sum(f" {phrase} " in heard for phrase in spoken)
        if show:
            print(f"{recording.path.name}\n  said   {recording.text}\n  heard  {reading.text}")
    report_skipped(reasons)
    if not waits:
        raise ConfigError("none of the recordings can be decoded")
    return Figures(
        wer=words.rate,
        cer=characters.rate,
        greedy_wer=greedy_words.rate,
        greedy_cer=greedy_characters.rate,
        accuracy=round(right / len(waits), 4),
        utterances=len(waits),
        skipped=len(reasons),
        audio_seconds=round(audio_seconds, 1),
        rtf=round(compute_seconds / audio_seconds, 4),
        latency_ms=round(1000 * float(np.median(waits)), 1),
        phrase_recall=round(heard_phrases / said_phrases, 4) if said_phrases else None,
    )


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What ``streamasr evaluate`` was asked: the first ``limit`` recordings, all if None;
    ``noise`` recordings mixed in at ``snr_db``; ``quiet_before``, seconds of silence before each,
    in which a stream may rest; ``offline``, the whole recording at once;
    ``look_for``, a file of phrases whose recall is measured."""

    manifest: Path
    limit: int | None = None
    noise: Path | None = None
    snr_db: float = 10.0
    quiet_before: float = 0.0
    offline: bool = False
    show: bool = False
    look_for: Path | None = None


def evaluate_manifest(
    config: EvaluateConfig, model: ModelConfig, decoder: DecoderConfig, endpoint: EndpointConfig
) -> Figures:
    """``streamasr evaluate``. Raises ConfigError for files that cannot be read, and what
    ``Recognizer.load`` raises."""
    manifest = read_manifest(config.manifest)
    noise = None if config.noise is None else Noise.load(config.noise, config.snr_db)
    baseline = None if model.checkpoint is None else load_baseline(model.checkpoint)
    if baseline is not None:
        if model.phrases is not None:
            raise ConfigError("a tutorial's network cannot be held to --phrases: leave them out")
        reader = baseline_reader(baseline, model, decoder)
    else:
        recognizer = Recognizer.load(model, decoder, endpoint)
        reader = (offline_reader if config.offline else streaming_reader)(recognizer)
    return evaluate(
        reader,
        list(islice(manifest.recordings, config.limit)),
        noise=noise,
        quiet_seconds=config.quiet_before,
        skipped=(*manifest.skipped, *(noise.skipped if noise else ())),
        show=config.show,
        phrases=() if config.look_for is None else read_phrases(config.look_for),
    )
