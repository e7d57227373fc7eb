"""Sound from a file or from standard input, block by block, like a microphone's.

Whatever can be decoded is delivered before an error is raised, so that nothing that was
understood is lost: a truncated recording gives its blocks first, then AudioFormatError.
"""

import io
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import soundfile

from streamasr.config import Encoding
from streamasr.errors import AudioFormatError
from streamasr.frontend.resample import PcmDecoder, Resampler, Samples, to_mono

# Writers that do not know the length in advance leave one of these in the data chunk.
UNKNOWN_SIZES = (0, 0xFFFFFFFF)
# sox writes the largest size that its header arithmetic allows, a little below 2 GiB.
SMALLEST_PLACEHOLDER_BYTES = 0x7FFFF000


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """Read from front to back only.

    soundfile seeks to where it already is after every block; in an MP3 that throws away the
    decoder's bit reservoir, and each block begins damaged (measured: 60 % of the power lost).
    """

    def seekable(self) -> bool:
        return False


class AudioFile:
    """Any file that libsndfile reads (wav, flac, ogg, opus, mp3, ...) as mono samples.

    The constructor raises AudioFormatError where the file cannot be read at all.
    """

    def __init__(self, path: Path, sample_rate_hz: int = 16_000, block_ms: int = 80) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        self._block_ms = block_ms
        self._refuse_hopeless()
        try:
            self._file = _SequentialFile(path)
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(". ")
            raise AudioFormatError(f"{path} is not audio that can be read: {reason}") from None
        if self._file.frames == 0:
            self._file.close()
            raise AudioFormatError(f"{path} has no samples")

    def blocks(self) -> Iterator[Samples]:
        """The file as ``(n,)`` float32 at ``sample_rate_hz``; once only.

        Raises AudioFormatError after the last good block where the file is truncated, cannot
        be decoded any further or holds values that are not numbers.
        """
        with self._file as file:
            resampler = Resampler(file.samplerate, self.sample_rate_hz)
            block_frames = max(1, file.samplerate * self._block_ms // 1000)
            heard_frames = 0
            problem: str | None = None
            while problem is None:
                try:
                    frames = file.read(block_frames, dtype="float32", always_2d=True)
                    if len(frames) == 0:
                        break
                    heard_frames += len(frames)
                    samples = resampler.process(to_mono(frames))
                except soundfile.LibsndfileError as error:
                    problem = f"cannot be decoded any further: {error.error_string}".rstrip(". ")
                except AudioFormatError as error:
                    problem = f"cannot be used any further: {error}"
                else:
                    if len(samples):
                        yield samples
            tail = resampler.flush()
            if len(tail):
                yield tail
            problem = problem or self._truncation(heard_frames)
            if problem is not None:
                heard_seconds = heard_frames / file.samplerate
                raise AudioFormatError(f"{self.path} {problem} (after {heard_seconds:.2f} s)")

    def _refuse_hopeless(self) -> None:
        if self.path.is_dir():
            raise AudioFormatError(f"{self.path} is a folder, not an audio file")
        try:
            with self.path.open("rb") as file:
                if not file.read(1):
                    raise AudioFormatError(f"{self.path} is an empty file")
        except OSError as error:
            raise AudioFormatError(f"cannot read {self.path}: {error.strerror}") from None

    def _truncation(self, heard_frames: int) -> str | None:
        """What is missing at the end, for the formats whose headers tell."""
        missing_bytes = missing_wav_bytes(self.path)
        if missing_bytes:
            return f"is truncated: {missing_bytes} bytes that its header announces are missing"
        if self._file.format == "FLAC" and heard_frames < self._file.frames:
            missing = self._file.frames - heard_frames
            return f"is truncated: {missing} samples that its header announces are missing"
        return None


def missing_wav_bytes(path: Path) -> int:
    """How many bytes of sound a RIFF header announces that the file does not hold.

    libsndfile silently shortens such files. 0 for whole files, for other formats, and for
    the placeholders of writers that did not know the length.
    """
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        while len(chunk := file.read(8)) == 8:
            name: bytes
            size_bytes: int
            name, size_bytes = struct.unpack("<4sI", chunk)
            if name == b"data":
                if size_bytes in UNKNOWN_SIZES or size_bytes >= SMALLEST_PLACEHOLDER_BYTES:
                    return 0
                return max(0, file.tell() + size_bytes - file_bytes)
            file.seek(size_bytes + size_bytes % 2, io.SEEK_CUR)
    return 0


class PcmInput:
    """Raw PCM from a pipe, as it comes; ``raw`` is unbuffered."""

    def __init__(
        self,
        raw: io.RawIOBase,
        sample_rate_hz: int = 16_000,
        *,
        source_rate_hz: int = 16_000,
        encoding: Encoding = "pcm_s16le",
        channels: int = 1,
        block_ms: int = 80,
    ) -> None:
        self._raw = raw
        self._decoder = PcmDecoder(encoding, channels)
        self._resampler = Resampler(source_rate_hz, sample_rate_hz)
        self._block_bytes = self._decoder.frame_bytes * max(1, source_rate_hz * block_ms // 1000)

    def blocks(self) -> Iterator[Samples]:
        """Samples ``(n,)`` as soon as bytes arrive, until the pipe is closed.

        Raises AudioFormatError at the end where not one sample came, or half a sample is
        left over; and where values are not numbers.
        """
        heard = False
        while data := self._raw.read(self._block_bytes):
            samples = self._resampler.process(self._decoder.decode(data))
            if len(samples):
                heard = True
                yield samples
        tail = self._resampler.flush()
        if len(tail):
            heard = True
            yield tail
        if self._decoder.carried_bytes:
            raise AudioFormatError(
                f"standard input ends in the middle of a sample: {self._decoder.carried_bytes} "
                f"bytes are left over of {self._decoder.frame_bytes}"
            )
        if not heard:
            raise AudioFormatError("standard input has no samples")


def in_real_time(
    blocks: Iterator[Samples], sample_rate_hz: int, stop: threading.Event
) -> Iterator[Samples]:
    """Hand each block over when a microphone would: once its last sample has sounded.

    Ends early when ``stop`` is set. A reader that falls behind gets the next blocks at once.
    """
    start_seconds = time.monotonic()
    heard_samples = 0
    for block in blocks:
        heard_samples += len(block)
        due_seconds = start_seconds + heard_samples / sample_rate_hz
        if stop.wait(max(0.0, due_seconds - time.monotonic())):
            return
        yield block
