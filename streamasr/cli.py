"""The command line: one command, subcommands, no logic.

Each subcommand is a function that adds its options and one that runs it; the latter
imports its room only then, so that ``streamasr captions`` never loads what recognises.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamasr import __version__
from streamasr.config import Config, Origins, config_as_toml, load_config
from streamasr.errors import StreamasrError

Subcommands = Any  # argparse names the type of add_subparsers() only privately

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Defects keep their traceback."""
    parsed = build_parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed) or 0
        sys.stdout.flush()
    except StreamasrError as error:
        print(f"streamasr: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def build_parser() -> argparse.ArgumentParser:
    """Every subcommand and its options."""
    parser = argparse.ArgumentParser(
        prog="streamasr",
        description="Real-time English speech recognition on a CPU.",
        epilog="exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 audio input, "
        "4 checkpoint or language model, 5 network address",
    )
    parser.add_argument("--version", action="version", version=f"streamasr {__version__}")
    subcommands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (add_serve, add_captions, add_devices, add_config):
        add(subcommands)
    return parser


def add_serve(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("serve", help="the daemon: sound in, words out")
    add_config_options(parser)
    parser.add_argument("--captions", action="store_true", help="show live captions here too")
    parser.set_defaults(run=run_serve)


def run_serve(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr import daemon

    daemon.run(config, captions=parsed.captions)


def add_captions(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("captions", help="live captions of a daemon's microphone")
    parser.add_argument("url", nargs="?", metavar="URL", help="default: ws://127.0.0.1:8765/v1")
    parser.set_defaults(run=run_captions)


def run_captions(parsed: argparse.Namespace) -> None:
    from streamasr.captions import viewer

    asyncio.run(viewer.watch(parsed.url or viewer.DEFAULT_URL))


def add_devices(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("devices", help="what can be heard")
    parser.set_defaults(run=run_devices)


def run_devices(_: argparse.Namespace) -> None:
    from streamasr.capture.microphone import MEND, list_devices
    from streamasr.errors import CaptureError

    devices = list_devices()
    if not devices:
        raise CaptureError(f"there is no microphone; {MEND}")
    for device in devices:
        default = "  (default)" if device.is_default else ""
        print(
            f"{device.index:>3}  {device.name}  "
            f"{device.channels} ch, {device.default_rate_hz} Hz{default}"
        )


def add_config(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "config", help="effective settings and where each came from, as a configuration file"
    )
    add_config_options(parser)
    parser.set_defaults(run=run_config)


def run_config(parsed: argparse.Namespace) -> None:
    config, origins = config_from(parsed)
    print(config_as_toml(config, origins), end="")


# Flags over the configuration file: (flag, setting, type, metavar, help).
CONFIG_FLAGS: tuple[tuple[str, str, type, str, str], ...] = (
    ("--input", "capture.input", str, "WHAT", "mic, FILE (in real time), - (s16le 16 kHz), none"),
    ("--device", "capture.device", str, "NAME", "microphone, by part of its name or index"),
    ("--fallback", "capture.fallback", Path, "FILE", "play this where there is no microphone"),
    ("--host", "serve.host", str, "HOST", "address to listen on (default: this machine only)"),
    ("--port", "serve.port", int, "PORT", "port to listen on; 0 picks a free one"),
    ("--checkpoint", "model.checkpoint", Path, "FILE", "acoustic checkpoint"),
    ("--language-model", "model.language_model", Path, "FILE", "KenLM language model"),
)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config`` and the flags that go over it."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    for flag, setting, kind, metavar, text in CONFIG_FLAGS:
        parser.add_argument(flag, dest=setting, type=kind, metavar=metavar, help=text)


def config_from(parsed: argparse.Namespace) -> tuple[Config, Origins]:
    """The settings that ``add_config_options`` was told. Raises ConfigError."""
    flags = {
        setting: (flag, value)
        for flag, setting, *_ in CONFIG_FLAGS
        if (value := getattr(parsed, setting)) is not None
    }
    return load_config(parsed.config, flags)
