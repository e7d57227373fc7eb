"""A training run in pictures and in words, from the log that it wrote.

The log has one JSON object a line (``training/log.py``)::

    {"event": "start", "update": 0}                  where the run began or was taken up again
    {"event": "updates", "update": 25, "phone_loss": 1.07, ...}    means since the last such line
    {"event": "epoch", "epoch": 1, "update": 230, "hours": 8.4, "<corpus>_loss": ...}

Figures that the log lacks are left out; so is a line that is not a whole JSON object, as a
killed run leaves behind. matplotlib is loaded only when something is drawn.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from streamasr.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES_A_SECTION = 5
ERROR_SUFFIXES = ("_phone_error", "_wer", "_cer")
LINE_STYLES = ("solid", "dashed", "dotted")  # one for each suffix

Row = dict[str, float]
Position = Callable[[Sequence[float]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class History:
    """The log's figures, in order, every row with its ``update``.

    ``updates`` are means of training batches, ``epochs`` the figures on dev recordings. What a
    run did between its last save and its death is not in it: it was done again.
    """

    updates: tuple[Row, ...]
    epochs: tuple[Row, ...]


class Example(NamedTuple):
    """A recording's name, what was said in it and what was heard."""

    name: str
    said: str
    heard: str

    @property
    def errors(self) -> int:
        """Words inserted, deleted or substituted."""
        return int(Levenshtein.distance(self.said.split(), self.heard.split()))

    @property
    def wer(self) -> float:
        """Errors a word that was said."""
        return self.errors / max(1, len(self.said.split()))


def read_history(log: Path) -> History:
    """Read a run's ``log.jsonl``. Raises ConfigError where there is no such file."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"log {log} cannot be read: {error.strerror}") from None
    updates: list[Row] = []
    epochs: list[Row] = []
    update = 0.0
    for line in lines:
        event, figures = _parse(line)
        if event == "start":
            update = figures.get("update", update)
            updates = [row for row in updates if row["update"] <= update]
            epochs = [row for row in epochs if row["update"] <= update]
        elif event == "updates" and "update" in figures:
            update = figures["update"]
            updates.append(figures)
        elif event == "epoch":
            epochs.append(figures | {"update": figures.get("update", update)})
    return History(tuple(updates), tuple(epochs))


def _parse(line: str) -> tuple[str, Row]:
    """A line's event and its finite numbers; no event where the line is not whole."""
    try:
        fields = json.loads(line)
    except ValueError:
        return "", {}
    if not isinstance(fields, dict):
        return "", {}
    numbers = {
        name: float(value)
        for name, value in fields.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return str(fields.get("event", "")), numbers


# ---- Curves. --------------------------------------------------------------------------------


def draw_curves(history: History) -> "Figure":
    """Four panels: losses of training batches, losses on dev, error rates on dev, learning rate.

    They run over hours of audio; over epochs or updates where the log has no hours. Raises
    ConfigError where matplotlib is missing.
    """
    label, position = _axis(history.epochs)
    figure = new_figure(11, 7)
    training, dev, errors, rate = figure.subplots(2, 2, sharex=True).flat
    _draw(training, "loss of training batches", history.updates, ("_loss",), position)
    _draw(dev, "loss on dev", history.epochs, ("_loss",), position, marker=".")
    _draw(errors, "error rate on dev", history.epochs, ERROR_SUFFIXES, position, marker=".")
    _draw(rate, "learning rate", history.updates, ("rate",), position)
    for axes in (errors, rate):
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    return figure


def _axis(epochs: Sequence[Row]) -> tuple[str, Position]:
    """The name of the horizontal axis, and what turns counts of updates into places on it."""
    for unit, label in (("hours", "hours of audio"), ("epoch", "epochs")):
        known = [(row["update"], row[unit]) for row in epochs if unit in row]
        if known and known[-1][0] > 0:
            return label, _interpolation(known)
    return "updates", lambda updates: np.asarray(updates, np.float64)


def _interpolation(known: Iterable[tuple[float, float]]) -> Position:
    """Straight lines from (0, 0) through the ``known`` pairs and on at the mean slope."""
    at, values = np.array([(0.0, 0.0), *known]).T
    slope = values[-1] / at[-1]

    def position(updates: Sequence[float]) -> NDArray[np.float64]:
        beyond = np.maximum(0.0, np.asarray(updates, np.float64) - at[-1])
        places: NDArray[np.float64] = np.interp(updates, at, values) + slope * beyond
        return places

    return position


def _draw(
    axes: "Axes",
    title: str,
    rows: Sequence[Row],
    suffixes: tuple[str, ...],
    position: Position,
    marker: str = "",
) -> None:
    """One line for every figure whose name ends in one of ``suffixes``.

    A suffix has its line style, what stands before it (a corpus, mostly) its colour.
    """
    axes.set_title(title)
    axes.grid(alpha=0.3)
    names = [name for name in _columns(rows) if name.endswith(suffixes)]
    colours: dict[str, str] = {}
    for name in names:
        suffix = next(suffix for suffix in suffixes if name.endswith(suffix))
        colour = colours.setdefault(name.removesuffix(suffix), f"C{len(colours)}")
        having = [row for row in rows if name in row]
        axes.plot(
            position([row["update"] for row in having]),
            [row[name] for row in having],
            color=colour,
            linestyle=LINE_STYLES[suffixes.index(suffix)],
            marker=marker,
            label=_title(name),
        )
    if names:
        axes.legend(fontsize="small")
    else:
        axes.text(0.5, 0.5, "nothing logged yet", ha="center", transform=axes.transAxes)


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """An empty figure that needs no display. Raises ConfigError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError("pictures need matplotlib: pip install 'streamasr[train]'") from None
    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def save_figure(figure: "Figure", picture: Path) -> None:
    """Write a PNG file. Raises ConfigError where that is not possible."""
    try:
        figure.savefig(picture, format="png")
    except OSError as error:
        raise ConfigError(f"picture {picture} cannot be written: {error.strerror}") from None


def draw_soak(rows: Sequence[Mapping[str, float]]) -> "Figure":
    """Four panels over hours of audio: memory, computing, open files and threads, finals.

    The rows are those of ``streamasr soak``. Every axis begins at 0, so that what is flat looks
    flat. Raises ConfigError where matplotlib is missing.
    """
    figure = new_figure(11, 7)
    hours = [row["audio_hours"] for row in rows]
    panels = {
        "memory, MB": {"resident": "resident_mb", "not of files": "anonymous_mb"},
        "computing for a chunk of the control, ms": {
            "median": "chunk_p50_ms",
            "95 %": "chunk_p95_ms",
            "fresh stream, median": "fresh_p50_ms",
            "fresh stream, 95 %": "fresh_p95_ms",
        },
        "open at the end of each row": {"files": "open_files", "threads": "threads"},
        "finals in each row": {"finals": "finals"},
    }
    for axes, (title, lines) in zip(
        figure.subplots(2, 2, sharex=True).flat, panels.items(), strict=True
    ):
        axes.set_title(title)
        for label, name in lines.items():
            style = "dotted" if name.startswith("fresh") else "solid"
            axes.plot(hours, [row[name] for row in rows], ls=style, marker=".", label=label)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.legend()
    for axes in figure.axes[2:]:
        axes.set_xlabel("hours of audio")
    return figure


def _columns(rows: Iterable[Row]) -> list[str]:
    """The names of all figures in ``rows``, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _title(name: str) -> str:
    """``librispeech_dev_wer`` as ``librispeech dev WER``."""
    shouted = {"wer": "WER", "cer": "CER"}
    return " ".join(shouted.get(word, word) for word in name.split("_"))


# ---- The report. ----------------------------------------------------------------------------


def write_report(
    folder: Path, settings: Mapping[str, object], examples: Sequence[Example] = ()
) -> Path:
    """Write ``report.md`` and ``curves.png`` into a run's ``folder``, from its ``log.jsonl``.

    The report has the run's ``settings``, a table of its epochs, the curves, and the worst, the
    median and the best of ``examples`` with the words that differ in bold. The same arguments
    and log give the same text. Returns the report's path. Raises ConfigError where the log
    cannot be read, report or picture not be written, or matplotlib is missing.
    """
    log, report = folder / "log.jsonl", folder / "report.md"
    history = read_history(log)
    save_figure(draw_curves(history), folder / "curves.png")
    sections = [
        f"# Training run {folder.resolve().name}",
        "![losses, error rates and learning rate](curves.png)",
        "## Epochs",
        _epoch_table(history.epochs),
        "## Settings",
        markdown_table(("setting", "value"), settings.items()),
        *_example_sections(examples),
    ]
    try:
        report.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report {report} cannot be written: {error.strerror}") from None
    return report


def _epoch_table(epochs: Sequence[Row]) -> str:
    if not epochs:
        return "No epoch has ended yet."
    names = _columns(epochs)
    names.sort(key=lambda name: name not in ("epoch", "update", "hours"))
    rows = [[f"{row[name]:g}" if name in row else "" for name in names] for row in epochs]
    return markdown_table(map(_title, names), rows)


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; None is an empty cell."""
    titles = list(header)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    lines = [titles, ["---"] * len(titles), *cells]
    escaped = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _example_sections(examples: Sequence[Example]) -> list[str]:
    """Headings and lists: all examples where they are few, else those at three places."""
    ranked = sorted(examples, key=lambda example: (-example.wer, example.name))
    count = EXAMPLES_A_SECTION
    if not ranked:
        return []
    if len(ranked) <= 3 * count:
        parts = {f"All {len(ranked)} examples, the worst first": ranked}
    else:
        middle = (len(ranked) - count) // 2
        parts = {
            f"The worst of {len(ranked)} examples": ranked[:count],
            "The median": ranked[middle : middle + count],
            "The best": ranked[-count:],
        }
    legend = "Words that differ are **bold**; WER is errors a word that was said."
    sections = ["## Said and heard", legend]
    for title, part in parts.items():
        sections += [f"### {title}", "\n".join(map(_example, part))]
    return sections


def _example(example: Example) -> str:
    said, heard = _marked(example.said.split(), example.heard.split())
    return (
        f"- `{example.name}`: WER {example.wer:.2f}\n"
        f"    - said: {said or '*nothing*'}\n"
        f"    - heard: {heard or '*nothing*'}"
    )


def _marked(said: Sequence[str], heard: Sequence[str]) -> tuple[str, str]:
    """Both sequences as text, with the words that the other lacks in bold."""
    marked: tuple[list[str], list[str]] = ([], [])
    for edit in Levenshtein.opcodes(said, heard):
        mark = "" if edit.tag == "equal" else "**"
        marked[0].extend(f"{mark}{word}{mark}" for word in said[edit.src_start : edit.src_end])
        marked[1].extend(f"{mark}{word}{mark}" for word in heard[edit.dest_start : edit.dest_end])
    return " ".join(marked[0]), " ".join(marked[1])
