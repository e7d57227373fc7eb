"""Settings: one frozen dataclass per stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Units = Literal["phones", "characters"]
Encoding = Literal["pcm_s16le", "pcm_f32le"]

SAMPLE_BYTES: dict[Encoding, int] = {"pcm_s16le": 2, "pcm_f32le": 4}


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """How samples become log-mel frames; stored in the checkpoint, never set by hand.

    A frame is ``mels`` natural-log mel energies (Slaney scale) of a periodic Hann window of
    ``window_samples`` in the middle of ``fft_samples``; frame *t* starts at sample
    ``t * hop_samples``: no centring, no padding.
    """

    sample_rate_hz: int = 16_000
    fft_samples: int = 512
    window_samples: int = 400
    hop_samples: int = 160
    mels: int = 80
    low_hz: float = 20.0
    high_hz: float = 7_600.0
    floor: float = 1e-6


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which files to recognise with; ``None`` means the ones that are shipped."""

    checkpoint: Path | None = None
    language_model: Path | None = None
    lexicon: Path | None = None
    units: Units = "phones"
    use_language_model: bool = True


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Beam search. Scores are natural logs: acoustic + lm_weight * lm + word_bonus * words."""

    beam_size: int = 64
    beam_threshold: float = 25.0
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    max_alternatives: int = 1


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """When an utterance ends, in seconds of audio time."""

    silence_without_words_seconds: float = 5.0
    silence_after_words_seconds: float = 0.8
    utterance_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """Where sound comes from: ``mic``, ``none``, ``-`` (standard input) or a file."""

    input: str = "mic"
    device: str | None = None
    block_ms: int = 80
    ring_seconds: float = 10.0
    fallback: Path | None = None


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The websocket server and its limits."""

    host: str = "127.0.0.1"
    port: int = 8765
    max_connections: int = 64
    max_message_bytes: int = 1 << 20
    max_backlog_seconds: float = 30.0
    viewer_queue_finals: int = 256
    status_interval_seconds: float = 10.0
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The whole daemon's settings, a section per stage."""

    model: ModelConfig = field(default_factory=ModelConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
