"""``streamasr lm build`` with KenLM's real programs, espeak-ng and the shipped models."""

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from streamasr.cli import main
from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.loading import load_language_model
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import ConfigError
from streamasr.recognizer import Recognizer
from streamasr.training.evaluate import offline_reader
from streamasr.training.kenlm_tools import build_model, find_tools, installed_tools
from streamasr.training.own_model import (
    Built,
    OwnModelConfig,
    best_weight,
    build_own_model,
    word_scores,
)

needs_kenlm = pytest.mark.skipif(
    installed_tools() is None, reason="no lmplz yet: 'python lm/build.py --compare' compiles it"
)
needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)
PARTS = ("snarfblatt", "gizmotron", "kitchen", "garage")
VERBS = ("turn", "switch", "put", "please tell", "now")
STATES = ("on", "off", "to 5 degrees")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty requests to machines, of which half have names that no lexicon has."""
    path = tmp_path_factory.mktemp("text") / "requests.txt"
    lines = [f"{verb} the {part} {state}." for verb in VERBS for part in PARTS for state in STATES]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(text: Path) -> Built:
    return build_own_model(OwnModelConfig((text,), text.parent / "own"), ModelConfig())


@needs_kenlm
@needs_espeak
def test_the_summary_says_what_was_built(built: Built, text: Path) -> None:
    folder = text.parent / "own"
    assert built.sentences == 60
    assert built.unreadable_words == {"5": 20}
    assert built.unreadable == 20
    assert built.new_words == 2
    assert built.pronounced.keys() == {"gizmotron", "snarfblatt"}
    assert built.vocabulary == len(PARTS) + 6 + len(("the", "on", "off", "to", "degrees"))
    assert built.ngrams[0] == built.vocabulary + 3  # and <s>, </s>, <unk>
    assert built.bytes == (folder / "model.kenlm").stat().st_size
    assert built.held_out is not None
    assert built.held_out.sentences == 3
    assert built.held_out.mixed_perplexity < built.held_out.general_perplexity / 5
    assert built.held_out.general_unknown > built.held_out.mixed_unknown == 0
    assert built.held_out.best_weight > 0.9
    assert built.weight == 0.5


@needs_kenlm
@needs_espeak
def test_the_flags_of_the_summary_load_a_model_that_knows_both_vocabularies(
    built: Built, text: Path
) -> None:
    program, command, *flags = shlex.split(built.use)
    assert (program, command) == ("streamasr", "serve")
    values = dict(zip(flags[::2], flags[1::2], strict=True))
    assert values == {
        "--own-language-model": str(text.parent / "own" / "model.kenlm"),
        "--own-weight": f"{built.weight:g}",
        "--lexicon": str(text.parent / "own" / "lexicon.txt.xz"),
    }
    lexicon = Lexicon.load(Path(values["--lexicon"]))
    general = Lexicon.load(shipped("lm", "lexicon.txt.xz"))
    assert {word: lexicon[word] for word in general} == dict(general)
    assert lexicon["snarfblatt"] == (tuple(built.pronounced["snarfblatt"].split()),)
    model = load_language_model(
        ModelConfig(
            own_language_model=Path(values["--own-language-model"]), own_weight=built.weight
        )
    )
    assert all(word in model for word in lexicon)
    shipped_model = NgramModel.load(shipped("lm", "english.kenlm"))
    said = ["turn the snarfblatt on"]
    assert word_scores(model, said).sum() > word_scores(shipped_model, ["turn the lamp on"]).sum()


@needs_kenlm
@needs_espeak
def test_general_speech_stays_recognisable_beside_it(
    built: Built, text: Path, demo: np.ndarray
) -> None:
    folder = text.parent / "own"
    config = ModelConfig(
        own_language_model=folder / "model.kenlm",
        own_weight=built.weight,
        lexicon=folder / "lexicon.txt.xz",
    )
    recognizer = Recognizer.load(config, DecoderConfig(), EndpointConfig())
    heard = offline_reader(recognizer)(demo[:96_000]).text
    assert len({"good", "morning", "kettle", "rain", "stopped"} & set(heard.split())) >= 4


@needs_kenlm
def test_a_text_too_short_to_hold_lines_out_is_mixed_half_and_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("play some music\n")
    out = tmp_path / "own"
    assert main(["lm", "build", str(path), "--out", str(out), "--order", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["held_out"] is None
    assert figures["weight"] == 0.5
    assert figures["new_words"] == 0
    assert figures["ngrams"] == [6, 4]
    own = NgramModel.load(out / "model.kenlm")
    assert own.order == 2
    every = ("play", "some", "music", "</s>", "<unk>")
    state = own.score(own.start(), "play")[1]
    assert sum(math.exp(own.score(state, word)[0]) for word in every) == pytest.approx(1, abs=0.02)


@needs_kenlm
@needs_espeak
def test_weight_and_pruning_can_be_chosen(text: Path, built: Built, tmp_path: Path) -> None:
    config = OwnModelConfig((text,), tmp_path, order=4, prune="0 0 9", weight=0.25)
    chosen = build_own_model(config, ModelConfig())
    assert chosen.weight == 0.25
    assert len(chosen.ngrams) == 4
    assert chosen.ngrams[1] == built.ngrams[1]
    assert chosen.ngrams[2] < built.ngrams[2]


def test_the_best_weight_is_where_the_likelihood_is_highest() -> None:
    random = np.random.default_rng(1)
    own, general = np.log(random.uniform(0.01, 0.5, (2, 200)))
    own[:10], general[10:40] = -np.inf, -np.inf
    weights = np.linspace(0.01, 0.99, 981)[:, None]
    likelihood = np.log(weights * np.exp(own) + (1 - weights) * np.exp(general)).sum(axis=1)
    best = weights[likelihood.argmax(), 0]
    assert best_weight(own, general) == pytest.approx(best, abs=0.0015)
    neither = np.full(5, -np.inf)
    extended = np.concatenate([own, neither]), np.concatenate([general, neither])
    assert best_weight(*extended) == best_weight(own, general)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--order", "1"], "--order must be 2 to 6, not 1"),
        (["--prune", "0 2 1"], "--prune must be"),
        (["--prune", "1"], "--prune must be"),
        (["--prune", "0 x"], "--prune must be"),
        (["--prune", "0 0 0 1"], "--prune must be at most 3 whole numbers"),
        (["--weight", "1"], "--weight must be 0.01 to 0.99, not 1"),
    ],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("play some music\n")
    asked = ["lm", "build", str(path), "--out", str(tmp_path / "own"), *arguments]
    assert main(asked) == 2
    refused = capsys.readouterr().err
    assert says in refused
    assert refused.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("play some music\n")
    assert main(["lm", "build", str(path), "--out", str(path / "own")]) == 2
    refused = capsys.readouterr().err
    assert "no model can be kept in" in refused
    assert refused.count("\n") == 1


def test_missing_compilers_are_named_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert installed_tools() is None
    with pytest.raises(ConfigError, match=r"without cmake and c\+\+: run 'apt-get install .*cmake"):
        find_tools()


def test_a_compiler_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is told to look nowhere, as where there is no network."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake and a C++ compiler are not installed")
    (tmp_path / "bin").mkdir()
    for name in ("cmake", "c++"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"failed with exit code 1 .*apt-get install") as refusal:
        find_tools()
    assert "\n" not in str(refusal.value)
    assert list((tmp_path / "cache" / "streamasr").iterdir()) == []


@needs_kenlm
def test_words_outside_the_vocabulary_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "model.kenlm"
    sentences = ["play # jazz", "play some jazz", "stop"]
    ngrams = build_model(sentences, ["jazz", "play", "stop"], path, order=2, prune="0")
    model = NgramModel.load(path)
    assert "#" not in model
    assert "some" not in model
    adjacent = [sentence.replace("#", "").replace("some", "") for sentence in sentences]
    with_play_jazz = build_model(adjacent, ["jazz", "play", "stop"], path, order=2, prune="0")
    assert ngrams[0] == with_play_jazz[0] == 6
    assert ngrams[1] < with_play_jazz[1]
