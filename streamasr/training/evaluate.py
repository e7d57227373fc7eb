"""Word and character error rates of a manifest, through the streaming path."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.progress import track

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.decoder.alphabet import CHARACTER_ALPHABET
from streamasr.errors import ConfigError
from streamasr.events import Final
from streamasr.recognizer import Recognizer
from streamasr.training.manifest import Recording, Samples, read_manifest, read_samples

PACKET_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Figures:
    """What ``streamasr evaluate`` prints.

    ``wer``, ``cer`` and ``accuracy`` (whole utterances right) are of the decoded text;
    ``greedy_wer`` and ``greedy_cer`` of the character head's best path, with neither
    lexicon nor language model. Rates are errors over the reference's length. ``rtf`` is
    seconds of computing a second of audio, of the streaming path alone.
    """

    wer: float
    cer: float
    greedy_wer: float
    greedy_cer: float
    accuracy: float
    utterances: int
    audio_seconds: float
    rtf: float

    def as_json(self) -> dict[str, float]:
        """Plain numbers under the names above."""
        return asdict(self)


def recognise(recognizer: Recognizer, samples: Samples) -> str:
    """The finals of a whole recording, fed in packets as a client would send it."""
    stream = recognizer.stream()
    packet = round(PACKET_SECONDS * recognizer.sample_rate_hz)
    events = []
    for first in range(0, len(samples), packet):
        events += stream.feed(samples[first : first + packet])
    events += stream.finish()
    return " ".join(event.text for event in events if isinstance(event, Final))


def greedy_text(recognizer: Recognizer, samples: Samples) -> str:
    """The character head's most probable path, collapsed."""
    path = recognizer.acoustic.forward(recognizer.logmel(samples)).characters.argmax(axis=1)
    return " ".join("".join(CHARACTER_ALPHABET.collapse(path.tolist())).split())


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two sequences of words."""
    return int(Levenshtein.distance(said, heard))


class _Errors:
    """Edits and reference lengths, in words and in characters."""

    def __init__(self) -> None:
        self.edits = np.zeros(2)
        self.lengths = np.zeros(2)

    def add(self, said: str, heard: str) -> None:
        self.edits += (
            Levenshtein.distance(said.split(), heard.split()),
            Levenshtein.distance(said, heard),
        )
        self.lengths += (len(said.split()), len(said))

    def rates(self) -> tuple[float, float]:
        wer, cer = self.edits / self.lengths
        return round(float(wer), 4), round(float(cer), 4)


def evaluate(
    recognizer: Recognizer, recordings: Sequence[Recording], *, show: bool = False
) -> Figures:
    """Recognise ``recordings`` one after the other. ``show`` prints said and heard.

    Raises AudioFormatError for a recording that cannot be decoded.
    """
    decoded, greedy = _Errors(), _Errors()
    right = 0
    audio_seconds = compute_seconds = 0.0
    for recording in track(recordings, "evaluate", disable=show, console=Console(stderr=True)):
        samples = read_samples(recording.path, recognizer.sample_rate_hz)
        started = time.perf_counter()
        heard = recognise(recognizer, samples)
        compute_seconds += time.perf_counter() - started
        audio_seconds += len(samples) / recognizer.sample_rate_hz
        decoded.add(recording.text, heard)
        greedy.add(recording.text, greedy_text(recognizer, samples))
        right += recording.text == heard
        if show:
            print(f"{recording.path.name}\n  said   {recording.text}\n  heard  {heard}")
    wer, cer = decoded.rates()
    greedy_wer, greedy_cer = greedy.rates()
    return Figures(
        wer=wer,
        cer=cer,
        greedy_wer=greedy_wer,
        greedy_cer=greedy_cer,
        accuracy=round(right / len(recordings), 4),
        utterances=len(recordings),
        audio_seconds=round(audio_seconds, 1),
        rtf=round(compute_seconds / audio_seconds, 4),
    )


def evaluate_manifest(
    manifest: Path,
    model: ModelConfig,
    decoder: DecoderConfig,
    endpoint: EndpointConfig,
    *,
    limit: int | None = None,
    phrases: Path | None = None,
    show: bool = False,
) -> Figures:
    """``streamasr evaluate``: the first ``limit`` recordings of ``manifest``, all if None.

    With ``phrases`` (one a line) nothing else can be recognised. Raises ConfigError for
    files that cannot be read, and what ``Recognizer.load`` raises.
    """
    recordings = list(islice(read_manifest(manifest).recordings, limit))
    spoken = None
    if phrases is not None:
        try:
            spoken = [" ".join(line.lower().split()) for line in phrases.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"phrases {phrases} cannot be read: {error}") from None
        spoken = [phrase for phrase in spoken if phrase]
        if not spoken:
            raise ConfigError(f"phrases {phrases} is empty: write one phrase a line")
    recognizer = Recognizer.load(model, decoder, endpoint, phrases=spoken)
    return evaluate(recognizer, recordings, show=show)
