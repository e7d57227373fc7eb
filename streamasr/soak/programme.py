"""What the daemon hears while it soaks: the sounds of a home, the same for the same seed.

Theory of operation. The programme comes in rows of equal length. A row begins with the control,
the bundled recording between ``QUIET_SECONDS`` of silence, and goes on with blocks whose kinds
are drawn by ``SHARES``; as much silence ends it, so that no utterance reaches into the next. The
second half of all rows is the first half again: a daemon that does not grow old must hear the
same in both, word for word. Rows last a whole number of the recognizer's chunks, so that the
control meets the same chunk borders every time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.config import shipped
from streamasr.errors import AudioFormatError, ConfigError
from streamasr.training.log import report_skipped
from streamasr.training.manifest import Samples, read_manifest, read_samples
from streamasr.training.noise import Noise
from streamasr.training.sounds import KINDS, SAMPLE_RATE_HZ, music, pink

SHARES = {
    "room": 0.45,
    "silence": 0.15,
    "noise": 0.10,
    "babble": 0.02,
    "music": 0.08,
    "speech": 0.13,
    "speech in noise": 0.07,
}
"""Of the time beside the control, by kind of block; speech has its pauses in it."""
CHUNK_SAMPLES = 2560
"""All lengths are multiples of it; noise of a prime number of samples would take long to make."""
QUIET_SECONDS = 6.4
MOST_SPEECH_SECONDS = 3600.0
BLOCK_SECONDS = (40.0, 90.0)
PAUSE_SECONDS = (1.5, 5.0)
"""After every recording of speech; an utterance ends after 0.8 s."""
ROOM_DB = (-75.0, -55.0)
NOISE_DB = (-50.0, -20.0)
SPEECH_GAIN_DB = (-10.0, 0.0)
SNR_DB = (5.0, 20.0)
BABBLING_VOICES = 6
_MADE_NOISES = ("white", "pink", "hum", "breathing")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of audio, in seconds."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Block:
    """Some seconds of one kind: samples in -1..1 at 16 kHz, and where in them somebody speaks
    in quiet."""

    samples: Samples
    spoken: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Sounds:
    """What the programme is taken from, at 16 kHz: the control, recordings of ``speech`` and of
    ``noise``; where there are none of those, noise is made."""

    control: Samples
    speech: tuple[Samples, ...]
    noise: tuple[Samples, ...] = ()

    @classmethod
    def load(cls, manifest: Path | None, folder: Path | None) -> "Sounds":
        """Of a manifest, at most ``MOST_SPEECH_SECONDS`` of it, or else of the bundled recording;
        and of what lies below ``folder``. What cannot be decoded is named on stderr.

        Raises ConfigError where nothing is left, AudioFormatError for the bundled recording.
        """
        control = read_samples(shipped("tests", "recordings", "demo.flac"), SAMPLE_RATE_HZ)
        speech: list[Samples] = [] if manifest else [control]
        reasons: list[str] = []
        for recording in read_manifest(manifest).recordings if manifest else ():
            if sum(map(len, speech)) >= MOST_SPEECH_SECONDS * SAMPLE_RATE_HZ:
                break
            try:
                speech.append(read_samples(recording.path, SAMPLE_RATE_HZ))
            except AudioFormatError as error:
                reasons.append(str(error))
        if not speech:
            raise ConfigError(f"none of the recordings of {manifest} can be decoded")
        noise = None if folder is None else Noise.load(folder, snr_db=0.0)
        report_skipped([*reasons, *(noise.skipped if noise else ())])
        return cls(control, tuple(speech), noise.stretches if noise else ())


class Programme:
    """``rows`` rows, an even number, of about ``row_seconds`` each; drawn from ``seed``.

    Raises ConfigError where a row would be too short for its control.
    """

    def __init__(self, sounds: Sounds, rows: int, row_seconds: float, seed: int) -> None:
        self._sounds = sounds
        self._seed = seed
        self.rows = rows
        self.period_rows = rows // 2
        self._row_samples = _whole_chunks(row_seconds)
        self.row_seconds = self._row_samples / SAMPLE_RATE_HZ
        self._quiet = np.zeros(_whole_chunks(QUIET_SECONDS), np.float32)
        rest = np.zeros(-len(sounds.control) % CHUNK_SAMPLES, np.float32)
        self.control = Block(np.concatenate([self._quiet, sounds.control, rest, self._quiet]))
        """What every row begins with."""
        least_samples = len(self.control.samples) + len(self._quiet)
        if self._row_samples <= least_samples:
            least_hours = rows * least_samples / SAMPLE_RATE_HZ / 3600
            raise ConfigError(f"--hours must be above {least_hours:.3f}")

    def row(self, number: int) -> Iterator[Block]:
        """The blocks of a row after its control."""
        random = np.random.default_rng((self._seed, number % self.period_rows))
        kinds, shares = list(SHARES), np.array(list(SHARES.values()))
        left = self._row_samples - len(self.control.samples) - len(self._quiet)
        while left > 0:
            count = min(left, _whole_chunks(random.uniform(*BLOCK_SECONDS)))
            kind = kinds[random.choice(len(kinds), p=shares / shares.sum())]
            yield self._makers[kind](random, count)
            left -= count
        yield Block(self._quiet)

    @property
    def _makers(self) -> dict[str, Callable[[np.random.Generator, int], Block]]:
        return {
            "room": self._room,
            "silence": lambda _, count: Block(np.zeros(count, np.float32)),
            "noise": lambda random, count: Block(self._noise(random, count)),
            "babble": lambda random, count: Block(self._babble(random, count)),
            "music": lambda random, count: Block(music(random, count)),
            "speech": self._speech,
            "speech in noise": self._speech_in_noise,
        }

    def _room(self, random: np.random.Generator, count: int) -> Block:
        return Block(_at_level(pink(random, count), random.uniform(*ROOM_DB)))

    def _noise(self, random: np.random.Generator, count: int) -> Samples:
        recordings = self._sounds.noise
        if not recordings:
            return KINDS[random.choice(_MADE_NOISES)](random, count)
        parts = [np.zeros(0, np.float32)]
        while sum(map(len, parts)) < count:
            parts.append(recordings[random.integers(len(recordings))])
        return _at_level(np.concatenate(parts)[:count], random.uniform(*NOISE_DB))

    def _babble(self, random: np.random.Generator, count: int) -> Samples:
        """Several people who speak at the same time."""
        voices = [
            np.roll(np.resize(self._recording(random), count), random.integers(count))
            for _ in range(BABBLING_VOICES)
        ]
        return _at_level(np.sum(voices, axis=0), random.uniform(*NOISE_DB))

    def _speech(self, random: np.random.Generator, count: int) -> Block:
        """Recordings with pauses, as many as fit, over the noise of the room."""
        sound = self._room(random, count).samples
        spoken: list[Span] = []
        first = count_samples(random.uniform(*PAUSE_SECONDS))
        while True:
            recording = self._recording(random)
            end = first + len(recording)
            if end + count_samples(PAUSE_SECONDS[0]) > count:
                return Block(sound, tuple(spoken))
            sound[first:end] += recording * 10 ** (random.uniform(*SPEECH_GAIN_DB) / 20)
            spoken.append(Span(first / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ))
            first = end + count_samples(random.uniform(*PAUSE_SECONDS))

    def _speech_in_noise(self, random: np.random.Generator, count: int) -> Block:
        speech = self._speech(random, count).samples
        noise = self._noise(random, count)
        mixer = Noise((noise,), snr_db=random.uniform(*SNR_DB))
        return Block(mixer.mix(speech, number=0))

    def _recording(self, random: np.random.Generator) -> Samples:
        speech = self._sounds.speech
        return speech[random.integers(len(speech))]


def count_samples(seconds: float) -> int:
    """How many samples last so long."""
    return round(seconds * SAMPLE_RATE_HZ)


def _whole_chunks(seconds: float) -> int:
    """Samples, to the nearest chunk."""
    return round(seconds * SAMPLE_RATE_HZ / CHUNK_SAMPLES) * CHUNK_SAMPLES


def _at_level(sound: Samples, level_db: float) -> Samples:
    """``sound`` with this root mean square."""
    level = np.sqrt(np.mean(sound**2)) or 1
    return np.asarray(sound * (10 ** (level_db / 20) / level), np.float32)
