"""Words where nobody speaks: ``streamasr silence``.

A listener that runs all day hears mostly rooms. Every recording below a folder is a stream of
its own; of each kind of ``sounds.py`` one stream of many pieces, which vary in level.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.events import Event, Final, Partial, SpeechStarted
from streamasr.recognizer import Recognizer
from streamasr.training.evaluate import PACKET_SECONDS
from streamasr.training.log import report_skipped
from streamasr.training.manifest import Samples, read_samples
from streamasr.training.noise import noise_files
from streamasr.training.plots import markdown_table
from streamasr.training.sounds import KINDS, make

PIECE_SECONDS = 60.0


@dataclass(slots=True)
class Count:
    """What was written: ``words`` of finals, and ``flashes``, texts of partials that no final
    begins with."""

    seconds: float = 0.0
    words: int = 0
    flashes: int = 0

    def add(self, events: Iterable[Event]) -> None:
        """A whole stream's events, in order."""
        texts: set[str] = set()
        for event in events:
            if isinstance(event, Partial) and event.text:
                texts.add(event.text)
            elif isinstance(event, Final):
                self.words += len(event.words)
                self.flashes += sum(not f"{event.text} ".startswith(f"{text} ") for text in texts)
                texts.clear()
            elif isinstance(event, SpeechStarted):  # the one before turned out to be nothing
                self.flashes += len(texts)
                texts.clear()
        self.flashes += len(texts)

    def as_json(self) -> dict[str, float]:
        """With ``words_per_hour`` and ``minutes``."""
        return {
            "words_per_hour": round(3600 * self.words / max(self.seconds, 1e-9), 1),
            "words": self.words,
            "flashes": self.flashes,
            "minutes": round(self.seconds / 60, 1),
        }


@dataclass(slots=True)
class SilenceFigures:
    """What ``streamasr silence`` prints: counts by kind (the folder's name, or that of the made
    sound), of ``all`` and how many recordings could not be read."""

    kinds: dict[str, Count] = field(default_factory=dict)
    skipped: int = 0

    @property
    def all(self) -> Count:
        """Added up over the kinds."""
        counts = self.kinds.values()
        return Count(
            sum(count.seconds for count in counts),
            sum(count.words for count in counts),
            sum(count.flashes for count in counts),
        )

    def as_json(self) -> dict[str, object]:
        """The overall counts under their names, and ``kinds`` with the same of each."""
        kinds = {kind: count.as_json() for kind, count in self.kinds.items()}
        return {**self.all.as_json(), "skipped": self.skipped, "kinds": kinds}

    def as_markdown(self) -> str:
        """A line a kind, the last one of all."""
        rows = {**self.kinds, "all": self.all}
        header = ("kind", "words an hour", "words", "flashes", "minutes")
        return markdown_table(
            header, [(kind, *count.as_json().values()) for kind, count in rows.items()]
        )


@dataclass(frozen=True, slots=True)
class SilenceConfig:
    """What ``streamasr silence`` was asked: recordings below ``folder``, if there is one, and
    ``minutes`` of every made kind, drawn from ``seed``."""

    folder: Path | None = None
    minutes: float = 10.0
    seed: int = 0


def listen(
    config: SilenceConfig, model: ModelConfig, decoder: DecoderConfig, endpoint: EndpointConfig
) -> SilenceFigures:
    """``streamasr silence``; recordings that cannot be read are named on stderr.

    Raises ConfigError where there is nothing to hear, and what ``Recognizer.load`` raises.
    """
    if config.minutes < 0 or (config.minutes == 0 and config.folder is None):
        raise ConfigError("nothing to hear: name a folder of recordings, or --minutes above 0")
    files = [] if config.folder is None else noise_files(config.folder)
    recognizer = Recognizer.load(model, decoder, endpoint)
    figures = SilenceFigures()
    reasons = []
    for path in track(files, "recordings", console=Console(stderr=True), disable=not files):
        try:
            samples = read_samples(path, recognizer.sample_rate_hz)
        except AudioFormatError as error:
            reasons.append(str(error))
            continue
        _hear(recognizer, [samples], figures.kinds.setdefault(path.parent.name, Count()))
    report_skipped(reasons)
    figures.skipped = len(reasons)
    kinds = KINDS if config.minutes else ()
    for kind in track(kinds, "made", console=Console(stderr=True), disable=not kinds):
        pieces = _pieces(kind, 60 * config.minutes, config.seed)
        _hear(recognizer, pieces, figures.kinds.setdefault(kind, Count()))
    if not figures.kinds:
        raise ConfigError(f"none of the recordings below {config.folder} can be decoded")
    return figures


def _pieces(kind: str, seconds: float, seed: int) -> Iterator[Samples]:
    """``seconds`` of sound in pieces of at most ``PIECE_SECONDS``."""
    number = 0
    while seconds > 1e-6:
        length = min(seconds, PIECE_SECONDS)
        yield make(kind, (length, length), seed, number)
        seconds -= length
        number += 1


def _hear(recognizer: Recognizer, pieces: Iterable[Samples], count: Count) -> None:
    """One stream of all ``pieces``, in packets, into ``count``."""
    packet = round(PACKET_SECONDS * recognizer.sample_rate_hz)
    stream = recognizer.stream()
    events: list[Event] = []
    for samples in pieces:
        for first in range(0, len(samples), packet):
            events += stream.feed(samples[first : first + packet])
        count.seconds += len(samples) / recognizer.sample_rate_hz
    count.add(events + stream.finish())
