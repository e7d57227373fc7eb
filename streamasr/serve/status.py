"""Health and metrics, as Prometheus reads them."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from streamasr.engine import Turn
from streamasr.serve.peer import MicrophoneStatus

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
COMPUTE_SECONDS = (
    *(0.0005, 0.0007, 0.001, 0.0014, 0.002, 0.003, 0.004, 0.006, 0.008),
    *(0.012, 0.016, 0.024, 0.032, 0.048, 0.064, 0.096, 0.128, 0.256, 0.512, 1.024),
)
RECENT_TURNS = 500  # 80 s of one stream
PROTOCOLS = ("native", "vosk", "wyoming")
ROLES = ("speaker", "viewer")


class Metrics:
    """Counts since the daemon started. ``observe`` may be called on any thread."""

    def __init__(self, model: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._model = Info("streamasr_model", "What recognises.", registry=registry)
        self.show_model(model)
        self._audio = Counter(
            "streamasr_audio_seconds", "Audio recognised, of all streams.", registry=registry
        )
        self._compute = Counter(
            "streamasr_compute_seconds", "Time that it took.", registry=registry
        )
        self._chunk = Histogram(
            "streamasr_chunk_latency_seconds",
            "From when audio came in to when its events were on their way.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self._chunk_compute = Histogram(
            "streamasr_chunk_compute_seconds",
            "Time that it took to recognise what came in.",
            buckets=COMPUTE_SECONDS,
            registry=registry,
        )
        self._final = Histogram(
            "streamasr_final_latency_seconds",
            "The same, of audio that ended an utterance.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self._finals = Counter("streamasr_finals", "Finals of all streams.", registry=registry)
        self.errors = Counter(
            "streamasr_errors", "Errors that ended a connection.", ["code"], registry=registry
        )
        Gauge(
            "streamasr_real_time_factor",
            f"Compute time over audio time, of the last {RECENT_TURNS} turns.",
            registry=registry,
        ).set_function(self._real_time_factor)
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_TURNS)
        self._lock = threading.Lock()

    def show_model(self, model: str) -> None:
        """Name what recognises from now on."""
        self._model.info({"name": model})

    def watch_microphone(self, status: Callable[[], MicrophoneStatus]) -> None:
        """Tell of the daemon's own input whenever somebody asks."""
        state = Gauge("streamasr_microphone", "1 for its state.", ["state"], registry=self.registry)
        for name in ("ok", "lost", "muted", "none"):
            state.labels(name).set_function(
                lambda name=name: float(_steady(status().state) == name)  # type: ignore[misc]
            )
        for metric, text, read in (
            ("overrun_seconds", "Its audio that was lost.", lambda: status().dropped_ms / 1000),
            ("lag_seconds", "Its audio not recognised yet.", lambda: status().lag_ms / 1000),
            ("clipped_samples", "Its samples at full scale.", lambda: status().clipped_samples),
            ("overflows", "Times that PortAudio lost its sound.", lambda: status().overflows),
            ("drift_ppm", "How much too fast its clock is.", lambda: _number(status().drift_ppm)),
        ):
            gauge = Gauge(f"streamasr_microphone_{metric}", text, registry=self.registry)
            gauge.set_function(read)

    def watch_connections(
        self, count: Callable[[str, str], int], replaced_partials: Callable[[], int]
    ) -> None:
        """Tell of connections, by protocol and role, and of what slow ones did not get."""
        gauge = Gauge(
            "streamasr_connections", "Open now.", ["protocol", "role"], registry=self.registry
        )
        for protocol in PROTOCOLS:
            for role in ROLES:
                gauge.labels(protocol, role).set_function(
                    lambda protocol=protocol, role=role: count(protocol, role)  # type: ignore[misc]
                )
        Gauge(
            "streamasr_replaced_partials",
            "Partials that a client missed because a newer one came first.",
            registry=self.registry,
        ).set_function(replaced_partials)

    def observe(self, turn: Turn) -> None:
        """Count one turn of the engine."""
        self._audio.inc(turn.audio_seconds)
        self._compute.inc(turn.compute_seconds)
        self._finals.inc(turn.finals)
        if turn.audio_seconds:
            self._chunk.observe(turn.latency_seconds)
            self._chunk_compute.observe(turn.compute_seconds)
        if turn.finals:
            self._final.observe(turn.latency_seconds)
        with self._lock:
            self._recent.append((turn.audio_seconds, turn.compute_seconds))

    def text(self) -> str:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def sums(self) -> dict[str, float]:
        """Every figure by its name, all labels together."""
        sums: dict[str, float] = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def _real_time_factor(self) -> float:
        with self._lock:
            recent: Iterable[tuple[float, float]] = tuple(self._recent)
        audio_seconds = sum(audio for audio, _ in recent)
        compute_seconds = sum(compute for _, compute in recent)
        return compute_seconds / audio_seconds if audio_seconds else 0.0


def _steady(state: str) -> str:
    return "ok" if state == "recovered" else state


def _number(value: float | None) -> float:
    """As Prometheus says that something is not known."""
    return math.nan if value is None else value
