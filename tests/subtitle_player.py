"""Reads subtitle files as a player does: with ffprobe."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest


def packets(path: Path) -> list[tuple[float, float]]:
    """Start and end in seconds of every cue. Skips the test where ffprobe is missing."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed (apt-get install ffmpeg)")
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_packets", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = json.loads(done.stdout)["packets"]
    starts = [(float(packet["pts_time"]), float(packet["duration_time"])) for packet in shown]
    return [(start, start + seconds) for start, seconds in starts]


def assert_monotonic(shown: list[tuple[float, float]]) -> None:
    """Cues last, follow each other and do not overlap."""
    assert shown
    assert all(start < end for start, end in shown)
    assert all(end <= after + 1e-6 for (_, end), (after, _) in itertools.pairwise(shown))
