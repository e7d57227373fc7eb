"""Settings of the search against each other, on real speech and the real models."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.config import shipped
from streamasr.recognizer import Recognizer
from streamasr.training.evaluate import evaluate, offline_reader
from streamasr.training.manifest import COLUMNS, read_manifest
from streamasr.training.tune import hear, score

SENTENCES = (
    (0.0, 6.0, "good morning the kettle is on and the rain has stopped at last"),
    (6.0, 9.0, "could you open the kitchen window a little"),
)


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    rows = ["\t".join(COLUMNS)]
    for number, (first, last, text) in enumerate(SENTENCES):
        name = f"{number}.flac"
        soundfile.write(tmp_path / name, demo[int(first * 16_000) : int(last * 16_000)], 16_000)
        rows.append(f"{name}\t{last - first}\trms\t{text}")
    path = tmp_path / "dev.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_scores_are_those_of_the_offline_evaluation(recognizer: Recognizer, manifest: Path) -> None:
    figures = evaluate(offline_reader(recognizer), read_manifest(manifest).recordings)
    heard = hear(recognizer, manifest)
    found = score(recognizer.search, heard)
    assert (found.wer, found.cer) == (figures.wer, figures.cer)
    assert found.step_us > 0
    assert [one.said for one in heard] == [text for _, _, text in SENTENCES]
    assert heard[0].log_probs.shape == (150, len(recognizer.search.alphabet.labels))
    assert len(hear(recognizer, manifest, every=2)) == 1


def test_every_combination_is_one_trial(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["tune", str(manifest), "--every", "2", "--beam-size", "4", "60", "--lm-weight", "0.5"]
    asked += ["0.9", "--language-model", str(shipped("lm", "english.kenlm")), "--json"]
    assert main(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["utterances"] == 1
    trials = printed["trials"]
    assert [(t["beam_size"], t["lm_weight"]) for t in trials] == [
        (4, 0.5), (60, 0.5), (4, 0.9), (60, 0.9)
    ]  # fmt: skip
    assert {"wer", "cer", "step_us", "load_seconds", "word_bonus"} <= trials[0].keys()
    assert {t["language_model"] for t in trials} == {"english.kenlm"}
    assert {t["megabytes"] for t in trials} == {28.4}
    assert trials[3]["wer"] <= 0.3
    assert trials[2]["wer"] >= trials[3]["wer"]
    assert trials[2]["step_us"] < trials[3]["step_us"]


def test_the_table_is_markdown(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(manifest), "--every", "2", "--beam-size", "8"]) == 0
    head, line, row = capsys.readouterr().out.splitlines()
    assert head.startswith("| beam | LM weight | word bonus | language model |")
    assert row.startswith("| 8 | 0.9 | 0 | english.kenlm | 28.4 |")
    assert head.count("|") == line.count("|") == row.count("|")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--every", "0"], "--every must be a whole number from 1 on, not 0"),
        (["--beam-size", "8", "0"], "--beam-size must be 1 to 10000, not 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["tune", str(manifest), *arguments]) == 2
    assert capsys.readouterr().err == f"streamasr: {says}\n"


def test_a_missing_language_model_is_an_error_before_anything_is_heard(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(manifest), "--language-model", "none.kenlm"]) == 4
    refused = capsys.readouterr()
    assert "no language model at none.kenlm" in refused.err
    assert refused.out == ""
