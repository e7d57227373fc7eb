"""The options of ``streamasr synthesize``; loads nothing else."""

import argparse
from pathlib import Path

DEFAULT_VOICES = "flite=4,festival=3,espeak=3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``streamasr synthesize``."""
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        help="text file, one sentence a line, .xz or plain; - is standard input",
    )
    parser.add_argument(
        "--sounds",
        type=int,
        metavar="N",
        help="instead of speech, N clips of each kind of sound without words",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to fill")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N sentences, drawn at random by the seed"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--voices",
        default=DEFAULT_VOICES,
        metavar="LIST",
        help=f"programs, optionally with their shares (default: {DEFAULT_VOICES})",
    )
    parser.add_argument("--min-words", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--max-words", type=int, default=30, metavar="N", help="default: 30")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="TEXT",
        help="text file whose sentences are never spoken, a test set for instance; repeatable",
    )
