"""``streamasr bench``: what recognising costs, on one core.

One stream hears the audio chunk by chunk, as fast as it can. The real-time factor and the
latencies are of the whole pipeline (features, network, beam, language model, events); the
stages are then timed one by one over the same chunks. With ``minutes`` one more stream hears
the same minute again and again, to show that its age changes neither its cost nor its memory.
"""

import os
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamasr.capture.wavfile import AudioFile
from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.recognizer import CHUNK_FRAMES, Recognizer
from streamasr.training.manifest import Samples, read_manifest


@dataclass(frozen=True, slots=True)
class Measurement:
    """``rtf`` is seconds of computing a second of audio; latencies are milliseconds from a
    chunk's arrival to its events; ``stage_seconds`` sum over the audio; ``rss_mb`` is the
    process' largest resident set."""

    audio_seconds: float
    rtf: float
    latency_ms: dict[str, float]
    stage_seconds: dict[str, float]
    rss_mb: float
    startup_seconds: float
    long_stream: dict[str, float] | None = None

    def as_json(self) -> dict[str, object]:
        """The names of the command-line contract."""
        figures: dict[str, object] = {
            "audio_seconds": self.audio_seconds,
            "rtf": self.rtf,
            "chunk_latency_ms": self.latency_ms,
            "stage_seconds": self.stage_seconds,
            "rss_mb": self.rss_mb,
            "startup_seconds": self.startup_seconds,
        }
        if self.long_stream is not None:
            figures["long_stream"] = self.long_stream
        return figures


def bench(
    manifest: Path | None,
    model: ModelConfig,
    decoder: DecoderConfig,
    endpoint: EndpointConfig,
    *,
    minutes: int = 0,
) -> Measurement:
    """Measure recognition of the recordings of ``manifest``, or of the bundled one; and of
    their first minute for ``minutes``, where that is not 0.

    Raises what reading them and ``Recognizer.load`` raise.
    """
    paths = [shipped("tests", "recordings", "demo.flac")]
    if manifest is not None:
        paths = [recording.path for recording in read_manifest(manifest).recordings]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    started = time.perf_counter()
    recognizer = Recognizer.load(model, decoder, endpoint)
    startup_seconds = time.perf_counter() - started
    recordings = [_samples(path, recognizer.sample_rate_hz) for path in paths]
    _recognise(recognizer, recordings[0])  # warm up: first calls allocate and page in
    latencies = [seconds for samples in recordings for seconds in _recognise(recognizer, samples)]
    audio_seconds = sum(map(len, recordings)) / recognizer.sample_rate_hz
    percentiles = np.percentile(np.array(latencies) * 1000, (50, 95, 99))
    return Measurement(
        audio_seconds=round(audio_seconds, 1),
        rtf=round(sum(latencies) / audio_seconds, 4),
        latency_ms={
            name: round(float(value), 2)
            for name, value in zip(("p50", "p95", "p99"), percentiles, strict=True)
        },
        stage_seconds=_stages(recognizer, recordings),
        rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        startup_seconds=round(startup_seconds, 2),
        long_stream=_grow_old(recognizer, recordings, minutes) if minutes else None,
    )


def _grow_old(
    recognizer: Recognizer, recordings: Sequence[Samples], minutes: int
) -> dict[str, float]:
    """Processor seconds a second of audio in the first and in the last minute of one stream,
    and over all its minutes the median and the largest; resident megabytes after the first
    minute and after the last."""
    minute = np.resize(np.concatenate(recordings), 60 * recognizer.sample_rate_hz)
    stream = recognizer.stream()
    costs: list[float] = []
    first_rss_mb = 0.0
    for _ in range(minutes):
        started = time.process_time()
        for first in range(0, len(minute), recognizer.chunk_samples):
            stream.feed(minute[first : first + recognizer.chunk_samples])
        costs.append((time.process_time() - started) / 60)
        first_rss_mb = first_rss_mb or _resident_mb()
    return {
        "minutes": minutes,
        "first_minute_rtf": round(costs[0], 4),
        "last_minute_rtf": round(costs[-1], 4),
        "median_rtf": round(float(np.median(costs)), 4),
        "largest_rtf": round(max(costs), 4),
        "first_rss_mb": first_rss_mb,
        "last_rss_mb": _resident_mb(),
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def _samples(path: Path, sample_rate_hz: int) -> Samples:
    return np.concatenate(list(AudioFile(path, sample_rate_hz).blocks()))


def _recognise(recognizer: Recognizer, samples: Samples) -> list[float]:
    """Seconds that each chunk took; the tail's are the last."""
    stream = recognizer.stream()
    seconds = []
    for first in range(0, len(samples), recognizer.chunk_samples):
        started = time.perf_counter()
        stream.feed(samples[first : first + recognizer.chunk_samples])
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    stream.finish()
    seconds.append(time.perf_counter() - started)
    return seconds


def _stages(recognizer: Recognizer, recordings: Iterable[Samples]) -> dict[str, float]:
    """Seconds in the features, the network and the search (advance and best)."""
    spent = dict.fromkeys(("features", "network", "search"), 0.0)
    span = recognizer.logmel.samples_for(CHUNK_FRAMES)
    for samples in recordings:
        state, beam = recognizer.acoustic.start(), recognizer.search.start()
        for first in range(0, len(samples) - span, recognizer.chunk_samples):
            times = [time.perf_counter()]
            frames = recognizer.logmel(samples[first : first + span])
            times.append(time.perf_counter())
            log_probs, state = recognizer.acoustic.step(frames, state)
            times.append(time.perf_counter())
            beam = recognizer.search.advance(beam, recognizer.head(log_probs))
            recognizer.search.best(beam)
            times.append(time.perf_counter())
            for stage, seconds in zip(spent, np.diff(times), strict=True):
                spent[stage] += float(seconds)
    return {stage: round(seconds, 3) for stage, seconds in spent.items()}
