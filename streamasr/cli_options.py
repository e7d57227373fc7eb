"""Options that several subcommands share, and how figures are printed."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamasr.config import Config, Origins, load_config

Subcommands = Any  # argparse names the type of add_subparsers() only privately


def print_figures(figures: Mapping[str, object], *, as_json: bool) -> None:
    """One JSON object, or a line a figure."""
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = value if isinstance(value, Mapping) else {"": value}
        print(
            f"{name:>18}  "
            + "  ".join(f"{part} {figure}".strip() for part, figure in shown.items())
        )


# Flags over the configuration file: (flag, setting, type, metavar, help). A bool is switched on.
Flags = tuple[tuple[str, str, type, str, str], ...]
SOUND_FLAGS: Flags = (
    ("--input", "capture.input", str, "WHAT", "mic, FILE (in real time), - (s16le 16 kHz), none"),
    ("--device", "capture.device", str, "NAME", "microphone, by part of its name or index"),
    ("--fallback", "capture.fallback", Path, "FILE", "play this where there is no microphone"),
    ("--wait", "capture.wait", bool, "", "wait for a microphone that is not there yet"),
    ("--host", "serve.host", str, "HOST", "address to listen on (default: this machine only)"),
    ("--port", "serve.port", int, "PORT", "port to listen on; 0 picks a free one"),
    ("--vosk-port", "serve.vosk_port", int, "PORT", "speak Vosk's protocol there (usually 2700)"),
    ("--wyoming-port", "serve.wyoming_port", int, "PORT", "Wyoming there (usually 10300)"),
    ("--wyoming-host", "serve.wyoming_host", str, "HOST", "address of the Wyoming port"),
    ("--token-file", "serve.token_file", Path, "FILE", "secret that clients need; made if missing"),
    ("--tls-certificate", "serve.tls_certificate", Path, "FILE", "serve wss:// with this (PEM)"),
    ("--tls-key", "serve.tls_key", Path, "FILE", "its private key (PEM)"),
    ("--history", "history.file", Path, "FILE", "keep what was said there (nothing is, without)"),
    ("--log-text", "log.utterance_text", bool, "", "log what was said, too"),
)
MODEL_FLAGS: Flags = (
    ("--checkpoint", "model.checkpoint", Path, "FILE", "acoustic checkpoint"),
    ("--language-model", "model.language_model", Path, "FILE", "KenLM language model"),
    ("--own-language-model", "model.own_language_model", Path, "FILE", "of 'streamasr lm build'"),
    ("--own-weight", "model.own_weight", float, "W", "of the own language model"),
    ("--lexicon", "model.lexicon", Path, "FILE", "pronunciations, one a line"),
    ("--phrases", "model.phrases", Path, "FILE", "hear nothing but these, one a line"),
    ("--hot-phrases", "model.hot_phrases", Path, "FILE", "expect these: one a line, tab, weight"),
    ("--catalogue", "model.catalogue", Path, "FILE", "table of the titles and artists to expect"),
    ("--units", "model.units", str, "UNITS", "phones (with the lexicon) or characters"),
    ("--beam-size", "decoder.beam_size", int, "N", "hypotheses kept at every step"),
    ("--lm-weight", "decoder.lm_weight", float, "X", "weight of the language model's score"),
    ("--word-bonus", "decoder.word_bonus", float, "X", "added to the score for every word"),
)


def add_config_options(
    parser: argparse.ArgumentParser, flags: Flags = (), *, only: Sequence[str] | None = None
) -> None:
    """``--config`` and the flags that go over it: ``flags`` and the model's, all or ``only``
    some."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    for flag, setting, kind, metavar, text in (*flags, *MODEL_FLAGS):
        if only is not None and flag not in only:
            continue
        if kind is bool:
            parser.add_argument(flag, dest=setting, action="store_const", const=True, help=text)
        else:
            parser.add_argument(flag, dest=setting, type=kind, metavar=metavar, help=text)
    if only is None:
        parser.add_argument(
            "--no-lm",
            dest="model.use_language_model",
            action="store_const",
            const=False,
            help="recognise without a language model",
        )


def config_from(parsed: argparse.Namespace) -> tuple[Config, Origins]:
    """The settings that ``add_config_options`` was told. Raises ConfigError."""
    return load_config(parsed.config, flags_from(parsed))


def flags_from(parsed: argparse.Namespace) -> dict[str, tuple[str, object]]:
    """The flags that were given, as ``load_config`` wants them."""
    names = {setting: flag for flag, setting, *_ in (*SOUND_FLAGS, *MODEL_FLAGS)}
    names["model.use_language_model"] = "--no-lm"
    return {
        setting: (flag, value)
        for setting, flag in names.items()
        if (value := getattr(parsed, setting, None)) is not None
    }
