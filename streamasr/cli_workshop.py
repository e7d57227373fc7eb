"""The subcommands of the workshop: train, measure, tune. No logic here, as in ``cli.py``."""

import argparse
import json
import sys
from pathlib import Path

from streamasr.cli_options import Subcommands, add_config_options, config_from, print_figures
from streamasr.errors import ConfigError


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
        "--quiet-before", type=float, default=0.0, metavar="SECONDS", help="of silence, before each"
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

    names = ("manifest", "limit", "noise", "snr_db", "quiet_before", "offline", "show", "look_for")
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
    parser.add_argument(
        "--minutes", type=int, default=0, metavar="M", help="also one stream of this length"
    )
    parser.add_argument(
        "--viewers", type=int, metavar="N", help="how soon N viewers see what was said, instead"
    )
    add_config_options(parser)
    parser.set_defaults(run=run_bench)


def run_bench(parsed: argparse.Namespace) -> None:
    config, _ = config_from(parsed)
    if parsed.viewers is not None:
        if parsed.viewers < 1:
            raise ConfigError(f"--viewers must be 1 or more, not {parsed.viewers}")
        from streamasr.bench_viewers import bench_viewers

        print_figures(bench_viewers(parsed.viewers, config), as_json=parsed.json)
        return
    from streamasr.bench import bench

    measured = bench(
        parsed.audio, config.model, config.decoder, config.endpoint, minutes=parsed.minutes
    )
    print_figures(measured.as_json(), as_json=parsed.json)


def add_soak(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("soak", help="a day of audio through the daemon, and its age")
    parser.add_argument(
        "--hours", type=float, default=24.0, metavar="H", help="of audio; default: 24"
    )
    parser.add_argument(
        "--speech", type=Path, metavar="MANIFEST", help="default: the bundled recording"
    )
    parser.add_argument("--noise", type=Path, metavar="DIR", help="default: made from nothing")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append a JSON line for each row")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the rows here")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.set_defaults(run=run_soak)


def run_soak(parsed: argparse.Namespace) -> int:
    from streamasr.soak.figures import HEADER, Row, row_line
    from streamasr.soak.run import SoakConfig, draw, soak

    asked = SoakConfig(
        parsed.hours, parsed.speech, parsed.noise, parsed.seed, parsed.log, parsed.plot
    )
    if parsed.json:
        report = soak(asked)
        print(json.dumps(report.as_json()))
    else:
        shown: list[Row] = []

        def show(row: Row) -> None:
            if not shown:
                print(HEADER)
            shown.append(row)
            print(row_line(row), flush=True)

        report = soak(asked, show)
        for verdict in report.verdicts:
            print(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}: {verdict.found}")
    if asked.plot is not None:
        sys.stdout.flush()  # whatever becomes of the picture
        draw(report, asked.plot)
    return 0 if report.passed else 1


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
    from streamasr.training import synthesize_options

    synthesize_options.add_arguments(parser)
    parser.set_defaults(run=run_synthesize)


def run_synthesize(parsed: argparse.Namespace) -> int:
    from streamasr.training import synthesize

    return synthesize.run(parsed)


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
