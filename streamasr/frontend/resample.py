"""Bytes to mono samples, and any sample rate to the model's, as a stream.

Both are functions of the bytes and not of how they were cut: a sample that is split
across two packets is carried over, mixing goes channel by channel so that no sum depends
on the length of a block, and soxr's stream was measured to give bit-identical output for
any chunking (``tests/test_resample.py`` holds it to that).
"""

from typing import get_args

import numpy as np
import numpy.typing as npt
import soxr

from streamasr.config import SAMPLE_BYTES, Encoding
from streamasr.errors import AudioFormatError

Samples = npt.NDArray[np.float32]
MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000


def to_mono(frames: Samples) -> Samples:
    """Mix ``(n, channels)`` float32 down to ``(n,)`` in -1..1.

    Louder values are clipped. Raises AudioFormatError where a sample is not a number.
    """
    if not np.isfinite(frames).all():
        raise AudioFormatError("the audio holds samples that are not finite numbers (NaN)")
    channels = frames.shape[1]
    mono: Samples = np.clip(frames[:, 0], -1.0, 1.0)
    for channel in range(1, channels):
        mono += np.clip(frames[:, channel], -1.0, 1.0)
    if channels > 1:
        mono /= np.float32(channels)
    return mono


class PcmDecoder:
    """Raw interleaved PCM bytes -> mono float32 samples, cut anywhere."""

    def __init__(self, encoding: Encoding = "pcm_s16le", channels: int = 1) -> None:
        if encoding not in SAMPLE_BYTES:
            known = ", ".join(get_args(Encoding))
            raise AudioFormatError(f"unknown encoding {encoding!r}; known are {known}")
        if channels < 1:
            raise AudioFormatError(f"channels must be at least 1, not {channels}")
        self.encoding = encoding
        self.channels = channels
        self.frame_bytes = SAMPLE_BYTES[encoding] * channels
        self._carried = b""

    @property
    def carried_bytes(self) -> int:
        """Bytes of a sample that is not complete yet."""
        return len(self._carried)

    def decode(self, data: bytes) -> Samples:
        """The complete samples in what was carried over and ``data``, as ``(n,)`` in -1..1."""
        data = self._carried + data
        whole_bytes = len(data) - len(data) % self.frame_bytes
        self._carried = data[whole_bytes:]
        if self.encoding == "pcm_s16le":
            pcm = np.frombuffer(data[:whole_bytes], dtype="<i2")
            frames = pcm.astype(np.float32) / np.float32(32768.0)
        else:
            frames = np.frombuffer(data[:whole_bytes], dtype="<f4").astype(np.float32)
        return to_mono(frames.reshape(-1, self.channels))


class Resampler:
    """Mono float32 at one rate -> mono float32 at another, block by block."""

    def __init__(self, source_rate_hz: int, target_rate_hz: int = 16_000) -> None:
        for rate_hz in (source_rate_hz, target_rate_hz):
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise AudioFormatError(
                    f"sample rate {rate_hz} Hz is outside {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
                )
        self.source_rate_hz = source_rate_hz
        self.target_rate_hz = target_rate_hz
        self._stream = (
            None
            if source_rate_hz == target_rate_hz
            else soxr.ResampleStream(
                source_rate_hz, target_rate_hz, 1, dtype="float32", quality="HQ"
            )
        )

    def process(self, samples: Samples) -> Samples:
        """What ``samples`` ``(n,)`` completes at the target rate; may be empty."""
        if self._stream is None or len(samples) == 0:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples)
        return resampled

    def flush(self) -> Samples:
        """The tail that the filter still holds; the next ``process`` starts a new stream."""
        nothing: Samples = np.zeros(0, dtype=np.float32)
        if self._stream is None:
            return nothing
        tail: Samples = self._stream.resample_chunk(nothing, last=True)
        self._stream.clear()
        return tail
