"""What a training run shows and writes down."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamasr.errors import ConfigError


def disk_error(path: Path, error: Exception) -> ConfigError:
    """What to raise where ``path`` could not be written."""
    return ConfigError(f"{path} cannot be written: {error}; make room, then run the same command")


def report_skipped(reasons: Sequence[str]) -> None:
    """Name what was left out, and how much it was, on stderr."""
    console = Console(stderr=True)
    for reason in reasons:
        console.print(f"skipped: {reason}", markup=False, highlight=False, soft_wrap=True)
    if reasons:
        console.print(f"skipped: {len(reasons)} lines or recordings in all")


class TrainingLog:
    """A progress bar for people and a file of JSON lines for everything else."""

    def __init__(self, path: Path, every: int, *, shown: bool) -> None:
        """A line after every ``every`` updates, counted from the run's beginning."""
        self._path = path
        self._every = every
        self._shown = shown
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            disable=not shown,
            console=Console(stderr=True),
        )
        self._task = self.progress.add_task("train", epoch=0, note="")
        self._recent: list[dict[str, float]] = []
        self._since = time.monotonic()

    def epoch(self, epoch: int, batches: int, index: int) -> None:
        self.progress.reset(self._task, total=batches, completed=index, epoch=epoch + 1, note="")

    def update(self, number: int, **figures: float) -> None:
        """Note the figures of update ``number``, which counts from 1."""
        if not self._shown:
            return
        self._recent.append(figures)
        note = " ".join(f"{k} {v:.3f}" for k, v in figures.items() if k.endswith("_loss"))
        self.progress.update(self._task, advance=1, note=note)
        if number % self._every == 0:
            mean = {k: float(np.mean([row[k] for row in self._recent])) for k in figures}
            speed = sum(row["hours"] for row in self._recent) / (time.monotonic() - self._since)
            self._since = time.monotonic()
            self._recent.clear()
            self.line(
                event="updates",
                update=number,
                audio_hours_per_hour=round(speed * 3600),
                **{k: float(f"{v:.4g}") for k, v in mean.items() if k != "hours"},
            )

    def line(self, **fields: Any) -> None:
        """Append one JSON object. Raises ConfigError where the disk does not take it."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.strftime("%H:%M:%S"), **fields}) + "\n")
        except OSError as error:
            raise disk_error(self._path, error) from None
