"""``streamasr transcribe``: audio files in, text out, each file for itself."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamasr.captions.subtitles import VTT_HEADER, SubtitleText
from streamasr.capture.wavfile import AudioFile
from streamasr.errors import AudioFormatError
from streamasr.events import Event, Final, Word
from streamasr.recognizer import Recognizer

Format = Literal["text", "json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = ("text", "json", "srt", "vtt")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in a file, and the error that cut it short, if one did."""

    path: Path
    finals: tuple[Final, ...]
    audio_seconds: float
    compute_seconds: float
    error: AudioFormatError | None

    @property
    def text(self) -> str:
        """All finals, in single spaces."""
        return " ".join(final.text for final in self.finals)

    @property
    def words(self) -> list[Word]:
        """All words, in order."""
        return [word for final in self.finals for word in final.words]


def transcribe(recognizer: Recognizer, path: Path) -> Transcript:
    """Recognise a file as fast as possible.

    A file that can be read in part gives what was heard in it, with ``error`` set. Raises
    AudioFormatError where nothing can be read.
    """
    started = time.perf_counter()
    audio = AudioFile(path, recognizer.sample_rate_hz)
    stream = recognizer.stream()
    events: list[Event] = []
    error = None
    try:
        for samples in audio.blocks():
            events += stream.feed(samples)
    except AudioFormatError as problem:
        error = problem
    events += stream.finish()
    audio_seconds = stream.state.fed_samples / recognizer.sample_rate_hz
    finals = tuple(event for event in events if isinstance(event, Final))
    return Transcript(path, finals, audio_seconds, time.perf_counter() - started, error)


def run(recognizer: Recognizer, paths: Sequence[Path], format: Format) -> int:  # noqa: A002
    """Print every file's transcript; the exit code. A file that cannot be read is named on
    standard error and does not keep the others from being heard. Subtitles are one file: the times
    of a recording go on after the audio of the one before."""
    code = 0
    subtitles = SubtitleText("vtt" if format == "vtt" else "srt")
    audio_seconds = 0.0
    if format == "vtt":
        print(VTT_HEADER, end="")
    for path in paths:
        try:
            transcript = transcribe(recognizer, path)
        except AudioFormatError as error:
            code = _complain(error)
            continue
        if format == "text":
            print(transcript.text)
        elif format == "json":
            print(json.dumps(_as_json(transcript)))
        else:
            print("".join(subtitles.blocks(transcript.finals, audio_seconds)), end="")
            audio_seconds += transcript.audio_seconds
        sys.stdout.flush()
        if transcript.error is not None:
            code = _complain(transcript.error)
    return code


def _complain(error: AudioFormatError) -> int:
    print(f"streamasr: {error}", file=sys.stderr)
    return error.exit_code


def _as_json(transcript: Transcript) -> dict[str, object]:
    return {
        "path": str(transcript.path),
        "text": transcript.text,
        "words": [
            {
                "word": word.word,
                "start": word.start_seconds,
                "end": word.end_seconds,
                "confidence": word.confidence,
            }
            for word in transcript.words
        ],
        "audio_seconds": round(transcript.audio_seconds, 3),
        "compute_seconds": round(transcript.compute_seconds, 3),
    }
