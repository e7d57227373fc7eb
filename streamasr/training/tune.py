"""``streamasr tune``: settings of the search against each other, the network run only once.

::

    recordings ─ network ─→ log-probabilities ─┬─ search, beam 16 ─→ WER, CER, µs a step
                                               ├─ search, beam 32 ─→ …
                                               └─ …
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import track

from streamasr.config import LIMITS, DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.beam import LexiconSearch
from streamasr.decoder.hypothesis import LogProbs
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.loading import load_language_model
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.recognizer import Recognizer
from streamasr.training.error_rate import ErrorRate
from streamasr.training.log import report_skipped
from streamasr.training.manifest import read_manifest, read_samples


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said in the recording at ``path``, and what the network makes of it."""

    path: Path
    said: str
    log_probs: LogProbs


@dataclass(frozen=True, slots=True)
class Score:
    """What a search made of all that was heard; ``step_us`` is its processor time a step (40 ms
    of audio) in microseconds, the network's left out."""

    wer: float
    cer: float
    step_us: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination of settings and its score.

    ``megabytes`` are 10⁶ bytes, ``load_seconds`` the time until the language model was loaded,
    from a file that the system has in memory.
    """

    beam_size: int
    lm_weight: float
    word_bonus: float
    language_model: str
    megabytes: float
    load_seconds: float
    score: Score

    def as_json(self) -> dict[str, float | str]:
        """Plain values, the score's among them."""
        fields: dict[str, float | str] = asdict(self)
        fields.pop("score")
        return fields | asdict(self.score)

    def as_row(self) -> str:
        """A row of the table that ``TABLE_HEAD`` begins."""
        return (
            f"| {self.beam_size} | {self.lm_weight:g} | {self.word_bonus:g} "
            f"| {self.language_model} | {self.megabytes:.1f} | {self.load_seconds:.3f} "
            f"| {self.score.wer:.4f} | {self.score.cer:.4f} | {self.score.step_us:.0f} |"
        )


TABLE_HEAD = (
    "| beam | LM weight | word bonus | language model | MB | load s | WER | CER | µs a step |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """What ``streamasr tune`` was asked: every ``every``-th recording, the first among them,
    with every combination of the others; what is empty is taken from the settings."""

    manifest: Path
    every: int = 1
    beam_sizes: tuple[int, ...] = ()
    lm_weights: tuple[float, ...] = ()
    word_bonuses: tuple[float, ...] = ()
    language_models: tuple[Path, ...] = ()


def hear(recognizer: Recognizer, manifest: Path, every: int = 1) -> list[Heard]:
    """Run the network over every ``every``-th recording, each at once and without endpoints.

    What cannot be decoded is named on stderr and counted. Raises ConfigError for a manifest
    that cannot be read or of which nothing can be decoded, or ``every`` below 1.
    """
    if every < 1:
        raise ConfigError(f"--every must be a whole number from 1 on, not {every}")
    read = read_manifest(manifest)
    reasons = list(read.skipped)
    heard = []
    terminal = Console(stderr=True)
    for recording in track(read.recordings[::every], "hear", console=terminal, transient=True):
        try:
            samples = read_samples(recording.path, recognizer.sample_rate_hz)
        except AudioFormatError as error:
            reasons.append(str(error))
            continue
        log_probs = recognizer.acoustic.forward(recognizer.logmel(samples))
        heard.append(Heard(recording.path, recording.text, recognizer.head(log_probs)))
    report_skipped(reasons)
    if not heard:
        raise ConfigError(f"none of the recordings of {manifest} can be decoded")
    return heard


def score(search: LexiconSearch, heard: Iterable[Heard]) -> Score:
    """Search all that was heard."""
    words, characters = ErrorRate(), ErrorRate()
    steps, seconds = 0, 0.0
    for one in heard:
        started = time.process_time()
        text = search.decode(one.log_probs)[0].text
        seconds += time.process_time() - started
        steps += len(one.log_probs)
        words.add(one.said.split(), text.split())
        characters.add(one.said, text)
    return Score(words.rate, characters.rate, round(1e6 * seconds / max(1, steps), 1))


def tune_manifest(
    config: TuneConfig, model: ModelConfig, decoder: DecoderConfig, *, as_json: bool = False
) -> None:
    """``streamasr tune``: print a table, row by row, or one JSON object.

    Raises ConfigError for a manifest or settings that cannot be used, and what
    ``Recognizer.load`` raises.
    """
    _check(config, model)
    default = model.language_model or shipped("lm", "english.kenlm")
    files = [_LanguageModelFile.load(path, model) for path in config.language_models or (default,)]
    bare = replace(model, use_language_model=False)
    recognizer = Recognizer.load(bare, decoder, EndpointConfig())
    heard = hear(recognizer, config.manifest, config.every)
    trials = []
    if not as_json:
        print(TABLE_HEAD)
    for trial in _trials(
        config, decoder, files, recognizer.search.alphabet, recognizer.lexicon, heard
    ):
        trials.append(trial.as_json())
        if not as_json:
            print(trial.as_row(), flush=True)
    if as_json:
        print(json.dumps({"utterances": len(heard), "trials": trials}))


@dataclass(frozen=True, slots=True)
class _LanguageModelFile:
    """A language model and how long it took to load from memory: it was read once before."""

    path: Path
    language_model: NgramModel
    load_seconds: float

    @classmethod
    def load(cls, path: Path, model: ModelConfig) -> "_LanguageModelFile":
        chosen = replace(model, language_model=path)
        load_language_model(chosen)
        started = time.perf_counter()
        language_model = load_language_model(chosen)
        return cls(path, language_model, round(time.perf_counter() - started, 3))


def _trials(
    config: TuneConfig,
    decoder: DecoderConfig,
    files: Sequence[_LanguageModelFile],
    alphabet: Alphabet,
    lexicon: Lexicon,
    heard: Sequence[Heard],
) -> Iterator[Trial]:
    """All combinations, language models outermost, beams innermost."""
    for file, lm_weight, word_bonus, beam_size in product(
        files,
        config.lm_weights or (decoder.lm_weight,),
        config.word_bonuses or (decoder.word_bonus,),
        config.beam_sizes or (decoder.beam_size,),
    ):
        settings = replace(decoder, lm_weight=lm_weight, word_bonus=word_bonus, beam_size=beam_size)
        search = LexiconSearch.of(alphabet, lexicon, file.language_model, settings)
        yield Trial(
            beam_size,
            lm_weight,
            word_bonus,
            file.path.name,
            round(file.path.stat().st_size / 1e6, 1),
            file.load_seconds,
            score(search, heard),
        )


def _check(config: TuneConfig, model: ModelConfig) -> None:
    low, high = LIMITS["decoder.beam_size"]
    for size in config.beam_sizes:
        if not low <= size <= high:
            raise ConfigError(f"--beam-size must be {low:g} to {high:g}, not {size}")
    if model.units != "phones":
        raise ConfigError("streamasr tune searches phones only: leave model.units as it is")
    if not model.use_language_model:
        raise ConfigError("streamasr tune needs a language model: leave --no-lm out")
