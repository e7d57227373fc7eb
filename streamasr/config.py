"""Settings: one frozen dataclass per stage, and how they are loaded."""

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from streamasr.errors import ConfigError

Units = Literal["phones", "characters"]
Encoding = Literal["pcm_s16le", "pcm_f32le"]


def shipped(*parts: str) -> Path:
    """A file that comes with streamasr: inside the wheel, or at the root of a checkout."""
    package = Path(__file__).parent
    inside = package / "_shipped" / Path(*parts)
    return inside if inside.exists() else package.parent / Path(*parts)


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
    """Which files to recognise with; ``None`` means the ones that are shipped.

    ``own_language_model`` is mixed with ``language_model``: a word's probability is
    ``own_weight`` times what it says of the word, and the rest what the other says.
    ``catalogue`` has titles and artists, ``hot_phrases`` phrases with weights, ``phrases`` all
    that can be heard; without them nothing is expected. ``rest``: whether the network rests while
    no voice is heard.
    """

    checkpoint: Path | None = None
    language_model: Path | None = None
    own_language_model: Path | None = None
    own_weight: float = 0.5
    lexicon: Path | None = None
    units: Units = "phones"
    use_language_model: bool = True
    catalogue: Path | None = None
    hot_phrases: Path | None = None
    phrases: Path | None = None
    rest: bool = True


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Beam search. Scores are natural logs: acoustic + lm_weight * lm + word_bonus * words.

    What all but ``1 - commit_share`` of the beam agree on is settled (beam.py). A partial
    shows words that at least ``partial_share`` of the beam hears.
    """

    beam_size: int = 300
    beam_threshold: float = 25.0
    lm_weight: float = 0.9
    word_bonus: float = 0.0
    max_alternatives: int = 1
    commit_share: float = 0.999
    partial_share: float = 0.6


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """When an utterance ends, in seconds of audio time."""

    silence_without_words_seconds: float = 5.0
    silence_after_words_seconds: float = 0.8
    utterance_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """Where sound comes from: ``mic``, ``none``, ``-`` (standard input) or a file.

    Where there is no microphone yet, ``fallback`` is played or, with ``wait``, one is waited for.
    """

    input: str = "mic"
    device: str | None = None
    block_ms: int = 80
    ring_seconds: float = 10.0
    fallback: Path | None = None
    wait: bool = False


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The servers, who may come in, and the limits.

    ``token_file`` and the TLS files hold for the websocket ports. Wyoming has no place for a
    token: beyond this machine ``wyoming_allow`` names the addresses and networks it serves.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    vosk_port: int | None = None
    wyoming_host: str = "127.0.0.1"
    wyoming_port: int | None = None
    wyoming_allow: tuple[str, ...] = ()
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = 64
    max_half_open: int = 64
    max_message_bytes: int = 1 << 20
    max_backlog_seconds: float = 30.0
    viewer_queue_finals: int = 256
    status_interval_seconds: float = 10.0
    idle_seconds: float = 300.0
    resume_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What goes to the log: ``utterance_text``, what was said, too; counters every
    ``counters_seconds``, 0 for never."""

    utterance_text: bool = False
    counters_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """Where finals of the daemon's own input are kept, if anywhere. Beyond ``max_bytes`` the file
    becomes ``FILE.1``, and so on up to ``keep_files``."""

    file: Path | None = None
    max_bytes: int = 10_000_000
    keep_files: int = 5


@dataclass(frozen=True, slots=True)
class Config:
    """The whole daemon's settings, a section per stage."""

    model: ModelConfig = field(default_factory=ModelConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    log: LogConfig = field(default_factory=LogConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)


DESCRIPTIONS: dict[str, str] = {
    "model.checkpoint": "The acoustic network; the shipped one where it is not set.",
    "model.language_model": "KenLM language model; the shipped one where it is not set.",
    "model.own_language_model": "One of your own texts, by `streamasr lm build`; mixed with it.",
    "model.own_weight": "How much of a word's probability comes from own_language_model.",
    "model.lexicon": "Pronunciations, one a line; the shipped ones where it is not set.",
    "model.units": "What the search reads; phones need the lexicon.",
    "model.use_language_model": "Whether a language model helps at all.",
    "model.catalogue": "A table with `title` and `artist` to expect, TSV or CSV.",
    "model.hot_phrases": "Phrases to expect: one a line, optionally a tab and a weight.",
    "model.phrases": "Nothing but these is heard: one a line, [unk] for anything else.",
    "model.rest": "Whether the network rests while no voice is heard.",
    "decoder.beam_size": "Hypotheses kept at every step; more are slower and hear better.",
    "decoder.beam_threshold": "Hypotheses whose score is this much below the best are dropped.",
    "decoder.lm_weight": "Weight of the language model's score beside the network's.",
    "decoder.word_bonus": "Added to the score for every word; above 0 more words are heard.",
    "decoder.max_alternatives": "Other readings that a final brings.",
    "decoder.commit_share": "What this share of the beam agrees on does not change any more.",
    "decoder.partial_share": "A partial shows words that this share of the beam hears.",
    "endpoint.silence_without_words_seconds": "Silence that ends an utterance with no word in it.",
    "endpoint.silence_after_words_seconds": "Silence that ends an utterance after a word.",
    "endpoint.utterance_seconds": "An utterance that lasts so long is cut after its last word.",
    "capture.input": "What is heard: mic, none, - (standard input: s16le, 16 kHz, mono) or a file.",
    "capture.device": "The microphone, by part of its name or by its index in `streamasr devices`.",
    "capture.block_ms": "Sound that the microphone hands over at once.",
    "capture.ring_seconds": "Sound that is kept while the daemon is too busy to read it.",
    "capture.fallback": "A file that is played where there is no microphone.",
    "capture.wait": "Whether a microphone that is not there yet is waited for.",
    "serve.host": "Address to listen on; others than this machine's own need a token_file.",
    "serve.port": "Port of websockets, captions page, /healthz and /metrics; 0 picks a free one.",
    "serve.vosk_port": "Port of Vosk's protocol, usually 2700.",
    "serve.wyoming_host": "Address of the Wyoming port; others need wyoming_allow.",
    "serve.wyoming_port": "Port of the Wyoming protocol, for Home Assistant; usually 10300.",
    "serve.wyoming_allow": 'Who may use Wyoming, as in ["192.168.1.20", "10.0.0.0/8"].',
    "serve.token_file": "The secret that clients need; made where it is missing.",
    "serve.tls_certificate": "Certificate for wss:// and https://, as PEM.",
    "serve.tls_key": "The certificate's private key, as PEM.",
    "serve.allowed_origins": 'Web pages that may connect, too, as in ["http://music.local"].',
    "serve.max_connections": "Clients at once.",
    "serve.max_half_open": "Connections that have not said yet what they want.",
    "serve.max_message_bytes": "One message of a client is never larger.",
    "serve.max_backlog_seconds": "Audio of a client that may wait to be recognised.",
    "serve.viewer_queue_finals": "Messages that may wait for a client that reads slowly.",
    "serve.status_interval_seconds": "Pause between two statuses where nothing changes.",
    "serve.idle_seconds": "A speaker that sends nothing for so long is closed.",
    "serve.resume_seconds": "A client that was cut off may come back for so long; 0 for never.",
    "log.utterance_text": "Whether the log says what was said, and not only that something was.",
    "log.counters_seconds": "How often a line of figures is logged; 0 for never.",
    "history.file": "Keep the daemon's own finals here; nothing is kept otherwise.",
    "history.max_bytes": "The file is numbered and begun anew where it would become larger.",
    "history.keep_files": "So many numbered files are kept.",
}
"""Every setting in a sentence. Units stand in the names, limits in ``LIMITS``."""


# ---- Loading: TOML sections and command-line flags over the defaults above. ----------------

NO_FILES = ("mic", "none", "-")
"""What ``capture.input`` is where it does not name a file."""

Origins = dict[str, str]

LIMITS: dict[str, tuple[float, float]] = {
    "model.own_weight": (0.01, 0.99),
    "decoder.beam_size": (1, 10_000),
    "decoder.max_alternatives": (0, 10),
    "decoder.commit_share": (0.5, 1),
    "decoder.partial_share": (0, 1),
    "endpoint.silence_without_words_seconds": (0.1, 60),
    "endpoint.silence_after_words_seconds": (0.1, 60),
    "endpoint.utterance_seconds": (0.1, 60),
    "capture.block_ms": (10, 250),
    "capture.ring_seconds": (0.5, 600),
    "serve.port": (0, 65_535),
    "serve.vosk_port": (0, 65_535),
    "serve.wyoming_port": (0, 65_535),
    "serve.max_connections": (1, 100_000),
    "serve.max_half_open": (1, 10_000),
    "serve.max_message_bytes": (1_024, 1 << 26),
    "serve.max_backlog_seconds": (0.1, 3_600),
    "serve.viewer_queue_finals": (8, 1_000_000),
    "serve.status_interval_seconds": (0.05, 3_600),
    "serve.idle_seconds": (0.1, 86_400),
    "serve.resume_seconds": (0, 3_600),
    "log.counters_seconds": (0, 86_400),
    "history.max_bytes": (10_000, 1_000_000_000_000),
    "history.keep_files": (1, 1_000),
}


def load_config(
    path: Path | None = None, flags: Mapping[str, tuple[str, object]] | None = None
) -> tuple[Config, Origins]:
    """Defaults, under the TOML file at ``path``, under ``flags``.

    ``flags`` maps ``section.name`` to the flag's own name and its value. Returns the settings
    and where each came from: ``default``, the file's path or the flag's name. Raises one
    ConfigError that names every mistake.
    """
    mistakes: list[str] = []
    given: dict[str, tuple[str, object]] = {}
    folder = Path()
    if path is not None:
        folder = path.parent
        for name, value in _read_toml(path, mistakes).items():
            if name == "capture.input" and isinstance(value, str) and value not in NO_FILES:
                value = str(folder / value)
            given[name] = (str(path), value)
    given.update(flags or {})

    sections: dict[str, object] = {}
    origins: Origins = {}
    for section, settings in get_type_hints(Config).items():
        values: dict[str, object] = {}
        for setting, hint in get_type_hints(settings).items():
            name = f"{section}.{setting}"
            origins[name] = "default"
            if name in given:
                origins[name], value = given[name]
                try:
                    values[setting] = _convert(hint, value, folder, LIMITS.get(name))
                except ValueError:
                    where = "" if origins[name] in ("default", str(path)) else f" ({origins[name]})"
                    mistakes.append(f"{name}{where} must be {expected(name)}, not {value!r}")
        sections[section] = settings(**values)
    capture = sections["capture"]
    if isinstance(capture, CaptureConfig) and capture.wait and capture.fallback is not None:
        mistakes.append(
            "where there is no microphone, capture.wait waits for one and capture.fallback plays "
            "a file: leave one of them out"
        )
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return Config(**sections), origins  # type: ignore[arg-type]


def _read_toml(path: Path, mistakes: list[str]) -> dict[str, object]:
    """``section.name`` -> value; unknown names become mistakes."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    known_sections = get_type_hints(Config)
    given: dict[str, object] = {}
    for section, settings in document.items():
        if section not in known_sections:
            mistakes.append(f"unknown section [{section}]{_did_you_mean(section, known_sections)}")
            continue
        if not isinstance(settings, dict):
            mistakes.append(f"{section} must be a section [{section}], not {settings!r}")
            continue
        known = get_type_hints(known_sections[section])
        for setting, value in settings.items():
            if setting in known:
                given[f"{section}.{setting}"] = value
            else:
                mistakes.append(f"unknown key {section}.{setting}{_did_you_mean(setting, known)}")
    return given


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def expected(name: str) -> str:
    """What the setting ``section.name`` must be, in words."""
    hint, limits = setting_types()[name], LIMITS.get(name)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of texts"
    kind = _kind(hint)
    if kind in (int, float):
        range_text = "" if limits is None else f" in {limits[0]}..{limits[1]}"
        return ("a whole number" if kind is int else "a number") + range_text
    return {Path: "a path", str: "a text", bool: "true or false"}[kind]


def setting_types() -> dict[str, Any]:
    """The type of every setting, by ``section.name``."""
    return {
        f"{section}.{setting}": hint
        for section, settings in get_type_hints(Config).items()
        for setting, hint in get_type_hints(settings).items()
    }


def _kind(hint: Any) -> Any:
    """The type itself, where None is possible, too."""
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    return choices[0] if choices else hint


def _convert(hint: Any, value: object, folder: Path, limits: tuple[float, float] | None) -> object:
    """``value`` as the type ``hint``; raises ValueError."""
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ValueError
    if get_origin(hint) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError
    kind = _kind(hint)
    if kind is Path:
        if isinstance(value, str | Path) and str(value):
            return value if isinstance(value, Path) else folder / value
        raise ValueError
    if kind is str or kind is bool:
        if isinstance(value, kind):
            return value
        raise ValueError
    number = value if isinstance(value, int) or kind is float else None
    low, high = limits or (-math.inf, math.inf)
    if isinstance(number, int | float) and not isinstance(number, bool):
        in_range = math.isfinite(number) and low <= number <= high
    else:
        in_range = False
    if in_range:
        return kind(number)
    raise ValueError
