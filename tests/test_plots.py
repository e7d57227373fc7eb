"""Curves and the report of a run, from logs as runs leave them behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamasr.errors import ConfigError
from streamasr.training.plots import (
    EXAMPLES_A_SECTION,
    Example,
    draw_curves,
    read_history,
    save_figure,
    write_report,
)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def updates(loss: float, **more: float) -> dict[str, object]:
    return {"event": "updates", "phone_loss": loss, "character_loss": 2 * loss, **more}


def epoch(number: int, **more: float) -> dict[str, object]:
    return {"event": "epoch", "epoch": number, "update": 100 * number, "hours": 8 * number, **more}


RUN = [
    {"event": "start", "parameters": 5149830, "update": 0},
    updates(1.5, rate=1e-3, update=50),
    updates(1.2, rate=2e-3, update=100),
    epoch(1, dev_loss=1.0, dev_phone_error=0.5, dev_wer=0.8),
    updates(1.0, rate=2e-3, sequence_loss=-1.0, update=150),
    epoch(2, dev_loss=0.9, dev_phone_error=0.4, dev_wer=0.7, other_cer=0.3),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "log.jsonl", RUN)


def write(path: Path, rows: list[dict[str, object]], cut: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + cut)
    return path


def curves(log: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Panel -> line -> its points, of the figure that is drawn from ``log``."""
    return {
        axes.get_title(): {
            str(line.get_label()): [tuple(map(float, point)) for point in line.get_xydata()]
            for line in axes.lines
        }
        for axes in draw_curves(read_history(log)).axes
    }


def test_every_figure_has_its_line_over_hours_of_audio(log: Path) -> None:
    drawn = curves(log)
    assert drawn["loss of training batches"] == {
        "phone loss": [(4.0, 1.5), (8.0, 1.2), (12.0, 1.0)],
        "character loss": [(4.0, 3.0), (8.0, 2.4), (12.0, 2.0)],
        "sequence loss": [(12.0, -1.0)],
    }
    assert drawn["loss on dev"] == {"dev loss": [(8.0, 1.0), (16.0, 0.9)]}
    assert drawn["error rate on dev"] == {
        "dev phone error": [(8.0, 0.5), (16.0, 0.4)],
        "dev WER": [(8.0, 0.8), (16.0, 0.7)],
        "other CER": [(16.0, 0.3)],
    }
    assert drawn["learning rate"] == {"rate": [(4.0, 1e-3), (8.0, 2e-3), (12.0, 2e-3)]}


def test_without_hours_the_axis_is_epochs_and_before_the_first_one_updates(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "hours"} for row in RUN]
    figure = draw_curves(read_history(write(tmp_path / "log", rows)))
    assert figure.axes[-1].get_xlabel() == "epochs"
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5]
    figure = draw_curves(read_history(write(tmp_path / "log", RUN[:2])))
    assert figure.axes[-1].get_xlabel() == "updates"
    assert figure.axes[0].lines[0].get_xdata().tolist() == [50.0]


def test_what_comes_after_the_last_epoch_goes_on_at_its_pace(tmp_path: Path) -> None:
    drawn = curves(write(tmp_path / "log", [*RUN, updates(0.9, update=300)]))
    assert drawn["loss of training batches"]["phone loss"][-1] == (24.0, 0.9)


def test_what_a_resumed_run_did_again_is_drawn_once(tmp_path: Path) -> None:
    again = [{"event": "start", "update": 120}, updates(1.1, update=145)]
    history = read_history(write(tmp_path / "log", RUN + again))
    assert [row["update"] for row in history.updates] == [50, 100, 145]
    assert [row["epoch"] for row in history.epochs] == [1]


@pytest.mark.parametrize("cut", ['{"event": "upda', "17", "[]", "null", "\x00\x00", '"epoch"'])
def test_a_line_that_is_not_whole_is_passed_over(tmp_path: Path, log: Path, cut: str) -> None:
    whole = read_history(log)
    assert read_history(write(tmp_path / "cut", RUN, cut)) == whole
    assert read_history(write(tmp_path / "cut", RUN[:3], cut + "\n")).updates == whole.updates[:2]


def test_losses_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    history = read_history(write(tmp_path / "log", [updates(float("nan"), rate=1.0, update=25)]))
    assert history.updates == ({"rate": 1.0, "update": 25.0},)


@pytest.mark.parametrize("rows", [[], RUN[:1], RUN[:2], RUN[3:4], RUN])
def test_the_picture_is_a_png_however_little_there_is(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    picture = tmp_path / "curves.png"
    save_figure(draw_curves(read_history(write(tmp_path / "log.jsonl", rows))), picture)
    assert picture.read_bytes().startswith(PNG_MAGIC)


def test_files_that_cannot_be_used_are_named(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.jsonl cannot be read: No such file"):
        read_history(tmp_path / "absent.jsonl")
    with pytest.raises(ConfigError, match=r"curves\.png cannot be written: No such file"):
        save_figure(draw_curves(read_history(log)), tmp_path / "absent" / "curves.png")


def test_the_report_has_settings_epochs_and_curves(tmp_path: Path, log: Path) -> None:
    report = write_report(tmp_path, {"width": 448, "noise": None, "odd": "a|b"}).read_text()
    lines = report.splitlines()
    assert lines[0] == f"# Training run {tmp_path.name}"
    assert "| width | 448 |" in lines
    assert "| noise |  |" in lines
    assert "| odd | a\\|b |" in lines
    titles = "epoch | update | hours | dev loss | dev phone error | dev WER | other CER"
    first = lines.index(f"| {titles} |")
    assert lines[first + 2] == "| 1 | 100 | 8 | 1 | 0.5 | 0.8 |  |"
    assert lines[first + 3] == "| 2 | 200 | 16 | 0.9 | 0.4 | 0.7 | 0.3 |"
    assert "(curves.png)" in report
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG_MAGIC)
    assert "Said and heard" not in report


def test_the_words_that_differ_are_marked(tmp_path: Path, log: Path) -> None:
    examples = [
        Example("a.flac", "the cat sat on the mat", "the hat sat on mat"),
        Example("b.flac", "yes", ""),
        Example("c.flac", "all is right", "all is right now"),
        Example("d.flac", "all right", "all right"),
    ]
    lines = write_report(tmp_path, {}, examples).read_text().splitlines()
    first = lines.index("### All 4 examples, the worst first") + 2
    assert lines[first:] == [
        "- `b.flac`: WER 1.00",
        "    - said: **yes**",
        "    - heard: *nothing*",
        "- `a.flac`: WER 0.33",
        "    - said: the **cat** sat on **the** mat",
        "    - heard: the **hat** sat on mat",
        "- `c.flac`: WER 0.33",
        "    - said: all is right",
        "    - heard: all is right **now**",
        "- `d.flac`: WER 0.00",
        "    - said: all right",
        "    - heard: all right",
    ]


def test_of_many_examples_worst_median_and_best_are_shown(tmp_path: Path, log: Path) -> None:
    words = [f"w{number}" for number in range(100)]
    examples = [
        Example(f"{wrong}.flac", " ".join(words), " ".join(["x"] * wrong + words[wrong:]))
        for wrong in np.random.default_rng(0).permutation(101).tolist()
    ]
    lines = write_report(tmp_path, {}, examples).read_text().splitlines()
    shown = {
        lines[at]: [line.split("`")[1] for line in lines[at:] if line.startswith("- ")][
            :EXAMPLES_A_SECTION
        ]
        for at in (i for i, line in enumerate(lines) if line.startswith("### "))
    }
    assert shown == {
        "### The worst of 101 examples": [f"{n}.flac" for n in (100, 99, 98, 97, 96)],
        "### The median": [f"{n}.flac" for n in (52, 51, 50, 49, 48)],
        "### The best": [f"{n}.flac" for n in (4, 3, 2, 1, 0)],
    }


def test_the_same_run_gives_the_same_report(tmp_path: Path, log: Path) -> None:
    examples = [Example("a", "one two", "one too"), Example("b", "one two", "won two")]
    report = write_report(tmp_path, {"seed": 1}, examples)
    written = report.read_bytes(), (tmp_path / "curves.png").read_bytes()
    assert write_report(tmp_path, {"seed": 1}, examples[::-1]) == report
    assert (report.read_bytes(), (tmp_path / "curves.png").read_bytes()) == written


def test_matplotlib_is_loaded_only_when_something_is_drawn() -> None:
    statement = (
        "import sys, streamasr.cli, streamasr.training.plots, streamasr.training.survey\n"
        "streamasr.cli.build_parser()\n"
        "print('matplotlib' in sys.modules)\n"
        "streamasr.training.plots.new_figure(1, 1)\n"
        "print('matplotlib' in sys.modules)"
    )
    command = [sys.executable, "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["False", "True"]
