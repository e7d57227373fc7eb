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
from streamasr.cli_options import (
    SOUND_FLAGS,
    Subcommands,
    add_config_options,
    config_from,
    flags_from,
)
from streamasr.cli_workshop import (
    add_bench,
    add_calibrate,
    add_evaluate,
    add_inspect,
    add_live,
    add_lm,
    add_record,
    add_silence,
    add_soak,
    add_synthesize,
    add_train,
    add_tune,
)
from streamasr.config_text import config_as_toml, example_config
from streamasr.errors import ConfigError, StreamasrError, complain

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Defects keep their traceback."""
    _open_standard_files()
    parsed = build_parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed) or 0
        sys.stdout.flush()
    except StreamasrError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        complain(
            "there is not enough memory; free some, or raise the limit (ulimit -v, MemoryMax=)"
        )
        return 1
    return code


def _lacks_memory(error: Exception) -> bool:
    """Python, the linker and torch each say it in their own way."""
    signs = ("failed to map segment", "annot allocate memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _open_standard_files() -> None:
    """Where who started us closed 0, 1 or 2, a socket would get that number, and what is meant
    for standard output."""
    for number, mode in enumerate("rww"):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def build_parser() -> argparse.ArgumentParser:
    """Every subcommand and its options."""
    parser = argparse.ArgumentParser(
        prog="streamasr",
        description="Real-time English speech recognition on a CPU.",
        epilog="exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 audio input, "
        f"4 checkpoint or language model, 5 network address, {INTERRUPTED} Ctrl-C",
    )
    parser.add_argument("--version", action="version", version=f"streamasr {__version__}")
    subcommands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        add_serve,
        add_transcribe,
        add_captions,
        add_mute,
        add_unmute,
        add_devices,
        add_config,
        add_doctor,
        add_install_service,
        add_evaluate,
        add_live,
        add_calibrate,
        add_silence,
        add_tune,
        add_bench,
        add_soak,
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
    from streamasr.startup import Startup

    startup = Startup()
    config, _ = config_from(parsed)
    startup.lap("python")
    from streamasr import daemon

    startup.lap("imports")
    daemon.run(config, lambda: config_from(parsed)[0], captions=parsed.captions, startup=startup)


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
    add_daemon_options(parser)
    for format_ in ("srt", "vtt"):
        text = f"append subtitles to this {format_.upper()} file, too"
        parser.add_argument(f"--{format_}", type=Path, metavar="FILE", help=text)
    parser.set_defaults(run=run_captions)


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """Which daemon, and how it lets one in."""
    parser.add_argument("url", nargs="?", metavar="URL", help="default: ws://127.0.0.1:8765/v1")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="the daemon's token")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="trust these certificates (PEM) for wss://"
    )


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


def add_mute(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("mute", help="close a daemon's microphone")
    add_daemon_options(parser)
    parser.set_defaults(run=run_mute, muted=True)


def add_unmute(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("unmute", help="open a daemon's microphone again")
    add_daemon_options(parser)
    parser.set_defaults(run=run_mute, muted=False)


def run_mute(parsed: argparse.Namespace) -> None:
    from streamasr.client import DEFAULT_URL, read_token, set_muted

    token = None if parsed.token_file is None else read_token(parsed.token_file)
    url = parsed.url or DEFAULT_URL
    asyncio.run(set_muted(url, parsed.muted, token=token, ca_file=parsed.ca_file))
    print("the microphone is muted" if parsed.muted else "the microphone is heard again")


def add_devices(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("devices", help="what can be heard, and how loud it is")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        metavar="N",
        help="listen to each for so long; 0 for not at all (default: 0.5)",
    )
    parser.add_argument("--watch", action="store_true", help="a live meter, until Ctrl-C")
    parser.add_argument("--device", metavar="NAME", help="watch this one, not the default")
    parser.set_defaults(run=run_devices)


def run_devices(parsed: argparse.Namespace) -> None:
    from streamasr import devices

    if parsed.watch:
        devices.watch(parsed.device)
    elif parsed.device is not None:
        raise ConfigError("--device goes with --watch only; add --watch, or leave --device out")
    else:
        devices.show(parsed.seconds)


def add_config(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "config", help="effective settings and where each came from, as a configuration file"
    )
    add_config_options(parser, SOUND_FLAGS)
    parser.add_argument(
        "--example", action="store_true", help="every setting explained, as a file to begin with"
    )
    parser.set_defaults(run=run_config)


def run_config(parsed: argparse.Namespace) -> None:
    if parsed.example:
        print(example_config(), end="")
        return
    config, origins = config_from(parsed)
    print(config_as_toml(config, origins), end="")


def add_doctor(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "doctor", help="what keeps the daemon from working, and the command that mends it"
    )
    add_config_options(parser, SOUND_FLAGS)
    parser.add_argument("--json", action="store_true", help="print a list of findings as JSON")
    parser.set_defaults(run=run_doctor)


def run_doctor(parsed: argparse.Namespace) -> int:
    from streamasr.doctor import report

    return report.run(parsed.config, flags_from(parsed), as_json=parsed.json)


def add_install_service(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "install-service", help="have systemd run the daemon, from boot on"
    )
    parser.add_argument(
        "--user", action="store_true", help="for you alone, with your PulseAudio or PipeWire"
    )
    parser.add_argument("--uninstall", action="store_true", help="stop and remove it")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument("--no-start", action="store_true", help="start it at the next boot only")
    parser.add_argument("--recommend", action="store_true", help="the music recommender, too")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="install below this folder and start nothing"
    )
    parser.set_defaults(run=run_install_service)


def run_install_service(parsed: argparse.Namespace) -> None:
    from streamasr.install import Installation

    installation = Installation(user=parsed.user, root=parsed.root)
    if parsed.uninstall:
        for flag in ("config", "no_start", "recommend"):
            if getattr(parsed, flag):
                name = flag.replace("_", "-")
                raise ConfigError(f"--{name} does not go with --uninstall; leave one of them out")
        installation.uninstall()
    else:
        installation.install(parsed.config, recommend=parsed.recommend, start=not parsed.no_start)
