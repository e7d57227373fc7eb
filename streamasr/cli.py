"""The command line: one command, subcommands, no logic.

Each subcommand is a function that adds its options and one that runs it; the latter
imports its room only then, so that ``streamasr captions`` never loads what recognises.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
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

    daemon.run(config, captions=parsed.captions)


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
    return transcribe.run(recognizer, parsed.files, parsed.format)


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
    add_config_options(parser, SOUND_FLAGS)
    parser.set_defaults(run=run_config)


def run_config(parsed: argparse.Namespace) -> None:
    config, origins = config_from(parsed)
    print(config_as_toml(config, origins), end="")


def add_evaluate(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("evaluate", help="error rates of a manifest, streaming")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N recordings")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="mix in the noise of DIR")
    parser.add_argument(
        "--snr-db", type=float, default=10.0, metavar="DB", help="how far below (default: 10)"
    )
    parser.add_argument(
        "--offline", action="store_true", help="each recording at once, without endpoints"
    )
    parser.add_argument("--show", action="store_true", help="print what was said and heard")
    parser.add_argument(
        "--look-for", type=Path, metavar="FILE", help="phrases, one a line: measure their recall"
    )
    add_config_options(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.evaluate import EvaluateConfig, evaluate_manifest

    names = ("manifest", "limit", "noise", "snr_db", "offline", "show", "look_for")
    asked = EvaluateConfig(**{name: getattr(parsed, name) for name in names})
    figures = evaluate_manifest(asked, config.model, config.decoder, config.endpoint)
    print_figures(figures.as_json(), as_json=parsed.json)


def add_calibrate(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser(
        "calibrate", help="a checkpoint with truer confidences and word times"
    )
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="new checkpoint")
    parser.add_argument("--times", type=Path, metavar="TSV", help="word times of another aligner")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every Nth recording only"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_options(parser)
    parser.set_defaults(run=run_calibrate)


def run_calibrate(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.calibrate import CalibrateConfig, calibrate

    asked = CalibrateConfig(tuple(parsed.manifests), parsed.out, parsed.times, parsed.every)
    print_figures(calibrate(asked, config.model, config.decoder), as_json=parsed.json)


def add_live(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("live", help="what viewers of live captions see of a manifest")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth of them")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N of those")
    parser.add_argument("--times", type=Path, metavar="TSV", help="of words, by another aligner")
    parser.add_argument("--reliability", type=Path, metavar="PNG", help="draw the confidences here")
    add_config_options(parser)
    parser.set_defaults(run=run_live)


def run_live(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.watch import LiveConfig, watch_manifest

    names = ("manifest", "times", "limit", "every", "reliability")
    asked = LiveConfig(**{name: getattr(parsed, name) for name in names})
    figures = watch_manifest(asked, config.model, config.decoder, config.endpoint)
    print(json.dumps(figures.as_json()) if parsed.json else figures.as_markdown())


def add_silence(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("silence", help="words an hour where nobody speaks")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="recordings of noise")
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="M", help="of each made sound; default: 10"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_options(parser)
    parser.set_defaults(run=run_silence)


def run_silence(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.silence import SilenceConfig, listen

    asked = SilenceConfig(parsed.folder, parsed.minutes, parsed.seed)
    figures = listen(asked, config.model, config.decoder, config.endpoint)
    print(json.dumps(figures.as_json()) if parsed.json else figures.as_markdown())


def add_tune(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("tune", help="settings of the search against each other")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth one only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for flag, dest, kind, metavar in (
        ("--beam-size", "beam_sizes", int, "N"),
        ("--lm-weight", "lm_weights", float, "X"),
        ("--word-bonus", "word_bonuses", float, "X"),
        ("--language-model", "language_models", Path, "FILE"),
    ):
        parser.add_argument(
            flag, dest=dest, type=kind, nargs="+", default=(), metavar=metavar, help="try each"
        )
    given = ("--checkpoint", "--lexicon", "--own-language-model", "--own-weight")
    add_config_options(parser, only=given)
    parser.set_defaults(run=run_tune)


def run_tune(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.tune import TuneConfig, tune_manifest

    names = ("beam_sizes", "lm_weights", "word_bonuses", "language_models")
    tried = {name: tuple(getattr(parsed, name)) for name in names}
    asked = TuneConfig(parsed.manifest, parsed.every, **tried)
    tune_manifest(asked, config.model, config.decoder, as_json=parsed.json)


def add_bench(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("bench", help="speed, latency and memory on one core")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--audio", type=Path, metavar="MANIFEST", help="default: the bundled recording"
    )
    add_config_options(parser)
    parser.set_defaults(run=run_bench)


def run_bench(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.bench import bench

    measured = bench(parsed.audio, config.model, config.decoder, config.endpoint)
    print_figures(measured.as_json(), as_json=parsed.json)


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


def add_record(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("record", help="prompts in, your own speech and a manifest out")
    parser.add_argument("texts", nargs="+", metavar="WORD", help='a word or a "quoted phrase"')
    parser.add_argument(
        "--out", type=Path, default=Path("recordings"), metavar="DIR", help="default: recordings"
    )
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="default: DIR/manifest.tsv")
    parser.add_argument("--seconds", type=float, metavar="S", help="default: by number of words")
    parser.add_argument("--takes", type=int, default=1, metavar="N", help="of each; default: 1")
    parser.add_argument("--speaker", default="me", metavar="NAME", help="default: me")
    parser.add_argument("--device", metavar="NAME", help="microphone, by part of its name or index")
    parser.set_defaults(run=run_record)


def run_record(parsed: argparse.Namespace) -> None:
    from streamasr.record import RecordConfig, record

    record(
        RecordConfig(
            texts=tuple(parsed.texts),
            folder=parsed.out,
            manifest=parsed.manifest or parsed.out / "manifest.tsv",
            seconds=parsed.seconds,
            takes=parsed.takes,
            speaker=parsed.speaker,
            device=parsed.device,
        )
    )


def add_synthesize(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("synthesize", help="sentences in, speech and a manifest out")
    from streamasr.training import synthesize

    synthesize.add_arguments(parser)
    parser.set_defaults(run=synthesize.run)


def add_inspect(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("inspect", help="what a manifest holds and what is wrong in it")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write pictures here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_inspect)


def run_inspect(parsed: argparse.Namespace) -> None:
    from streamasr.training.survey import inspect_manifest

    inspect_manifest(parsed.manifest, parsed.out, as_json=parsed.json)


def add_train(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("train", help="train a checkpoint; the same command resumes")
    from streamasr.training import options

    options.add_arguments(parser)
    parser.set_defaults(run=run_train)


def run_train(parsed: argparse.Namespace) -> None:
    from streamasr.training.options import train_config
    from streamasr.training.train import train

    train(train_config(parsed))


def add_lm(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("lm", help="language models of your own texts")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser("build", help="text in, a language model and a lexicon out")
    build.add_argument(
        "texts", nargs="+", type=Path, metavar="TEXT", help="one sentence a line, or prose; .xz too"
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    build.add_argument("--order", type=int, default=3, metavar="N", help="default: 3")
    build.add_argument(
        "--prune",
        default="0",
        metavar="COUNTS",
        help="leave out n-grams seen so seldom, by order: '0 0 1'; default: none",
    )
    build.add_argument(
        "--weight", type=float, metavar="W", help="beside the general model; default: by the text"
    )
    build.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_options(build, only=("--language-model", "--lexicon"))
    build.set_defaults(run=run_lm_build)


def run_lm_build(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    from streamasr.training.own_model import OwnModelConfig, build_own_model

    names = ("out", "order", "prune", "weight")
    asked = OwnModelConfig(tuple(parsed.texts), **{name: getattr(parsed, name) for name in names})
    print_figures(build_own_model(asked, config.model).as_json(), as_json=parsed.json)


# Flags over the configuration file: (flag, setting, type, metavar, help).
Flags = tuple[tuple[str, str, type, str, str], ...]
SOUND_FLAGS: Flags = (
    ("--input", "capture.input", str, "WHAT", "mic, FILE (in real time), - (s16le 16 kHz), none"),
    ("--device", "capture.device", str, "NAME", "microphone, by part of its name or index"),
    ("--fallback", "capture.fallback", Path, "FILE", "play this where there is no microphone"),
    ("--host", "serve.host", str, "HOST", "address to listen on (default: this machine only)"),
    ("--port", "serve.port", int, "PORT", "port to listen on; 0 picks a free one"),
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
        if only is None or flag in only:
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
    names = {setting: flag for flag, setting, *_ in (*SOUND_FLAGS, *MODEL_FLAGS)}
    names["model.use_language_model"] = "--no-lm"
    flags = {
        setting: (flag, value)
        for setting, flag in names.items()
        if (value := getattr(parsed, setting, None)) is not None
    }
    return load_config(parsed.config, flags)
