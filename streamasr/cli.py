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

from streamasr import __version__
from streamasr.cli_options import SOUND_FLAGS, Subcommands, add_config_options, config_from
from streamasr.cli_workshop import (
    add_bench,
    add_calibrate,
    add_evaluate,
    add_inspect,
    add_live,
    add_lm,
    add_record,
    add_silence,
    add_synthesize,
    add_train,
    add_tune,
)
from streamasr.config import config_as_toml
from streamasr.errors import StreamasrError

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
    for add in (
        add_serve,
        add_transcribe,
        add_captions,
        add_devices,
        add_config,
        add_evaluate,
        add_live,
        add_calibrate,
        add_silence,
        add_tune,
        add_bench,
        add_record,
        add_synthesize,
        add_inspect,
        add_train,
        add_lm,
    ):
        add(subcommands)
    return parser


def add_serve(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("serve", help="the daemon: sound in, words out")
    add_config_options(parser, SOUND_FLAGS)
    parser.add_argument("--captions", action="store_true", help="show live captions here too")
    parser.set_defaults(run=run_serve)


def run_serve(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr import daemon

    daemon.run(config, lambda: config_from(parsed)[0], captions=parsed.captions)


def add_transcribe(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("transcribe", help="audio files in, text out")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--format", choices=("text", "json", "srt", "vtt"), default="text")
    add_config_options(parser)
    parser.set_defaults(run=run_transcribe)


def run_transcribe(parsed: argparse.Namespace) -> int:
    config, _ = config_from(parsed)
    from streamasr import transcribe
    from streamasr.recognizer import Recognizer

    recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
    if recognizer.unspoken:
        print(f"streamasr: {recognizer.unspoken}", file=sys.stderr)
    return transcribe.run(recognizer, parsed.files, parsed.format)


def add_captions(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("captions", help="live captions of a daemon's microphone")
    parser.add_argument("url", nargs="?", metavar="URL", help="default: ws://127.0.0.1:8765/v1")
    for format_ in ("srt", "vtt"):
        text = f"append subtitles to this {format_.upper()} file, too"
        parser.add_argument(f"--{format_}", type=Path, metavar="FILE", help=text)
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="the daemon's token")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="trust these certificates (PEM) for wss://"
    )
    parser.set_defaults(run=run_captions)


def run_captions(parsed: argparse.Namespace) -> None:
    from streamasr.captions import viewer
    from streamasr.client import DEFAULT_URL, read_token

    token = None if parsed.token_file is None else read_token(parsed.token_file)
    watching = viewer.watch(
        parsed.url or DEFAULT_URL,
        token=token,
        ca_file=parsed.ca_file,
        srt=parsed.srt,
        vtt=parsed.vtt,
    )
    asyncio.run(watching)


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
    add_config_options(parser, SOUND_FLAGS)
    parser.set_defaults(run=run_config)


def run_config(parsed: argparse.Namespace) -> None:
    config, origins = config_from(parsed)
    print(config_as_toml(config, origins), end="")
