"""The language model adapter on real KenLM and the shipped model."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import kenlm
import pytest

from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import LanguageModelError

LM = Path(__file__).parents[1] / "lm"
SHIPPED = LM / "english.kenlm"
SPEECH = LM / ".." / ".." / "shared" / "speech"

ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-2.0\t<unk>
0\t<s>\t-0.3
-1.0\t</s>
-0.5\tplay\t-0.2
-0.7\tjazz\t-0.1

\\2-grams:
-0.1\t<s> play
-0.4\tplay jazz
-0.25\tjazz </s>

\\end\\
"""


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return NgramModel.load(SHIPPED)


def test_scores_are_natural_logs_of_the_written_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA)
    tiny = NgramModel.load(path)
    assert tiny.order == 2
    play, after_play = tiny.score(tiny.start(), "play")
    jazz, after_jazz = tiny.score(after_play, "jazz")
    unknown, _ = tiny.score(after_jazz, "zounds")
    assert play == pytest.approx(-0.1 * math.log(10), rel=1e-5)
    assert jazz == pytest.approx(-0.4 * math.log(10), rel=1e-5)
    assert tiny.finish(after_jazz) == pytest.approx(-0.25 * math.log(10), rel=1e-5)
    assert unknown == pytest.approx(-2.1 * math.log(10), rel=1e-5)  # with jazz's back-off
    assert "jazz" in tiny
    assert "zounds" not in tiny


def test_a_sentence_adds_up_to_kenlms_own_score(model: NgramModel) -> None:
    sentence = "play some music in the living room"
    total, state = 0.0, model.start()
    for word in sentence.split():
        score, state = model.score(state, word)
        total += score
    total += model.finish(state)
    assert total == pytest.approx(kenlm.Model(str(SHIPPED)).score(sentence) * math.log(10))


def test_scoring_leaves_the_state_alone_and_states_compare_by_value(model: NgramModel) -> None:
    start = model.start()
    first = model.score(start, "the")
    assert model.score(start, "the") == first
    assert start == model.start()
    assert hash(first[1]) == hash(model.score(model.start(), "the")[1])


def test_shipped_model_prefers_english(model: NgramModel) -> None:
    def total(words: str) -> float:
        score, state = 0.0, model.start()
        for word in words.split():
            step, state = model.score(state, word)
            score += step
        return score + model.finish(state)

    assert total("turn off the lights") > total("lights the off turn") + 5.0
    assert total("play the next song") > total("play the necks song") + 3.0


def test_shipped_model_is_small_enough() -> None:
    assert SHIPPED.stat().st_size <= 45_000_000


def test_every_word_of_the_lexicon_is_in_the_model(model: NgramModel) -> None:
    lexicon = Lexicon.load(LM / "lexicon.txt.xz")
    assert len(lexicon) > 60_000
    assert [word for word in lexicon if word not in model] == []


def test_letters_and_digits_are_spoken_as_such(model: NgramModel) -> None:
    lexicon = Lexicon.load(LM / "lexicon.txt.xz")
    assert {("AH",), ("EY",)} <= set(lexicon["a"])
    assert lexicon["b"] == (("B", "IY"),)
    assert ("Z", "IY") in lexicon["z"]
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]
    assert all(word in lexicon for word in [*"abcdefghijklmnopqrstuvwxyz", *digits])


@pytest.mark.skipif(not SPEECH.is_dir(), reason="needs ../shared/speech")
@pytest.mark.parametrize(
    ("corpus", "most_unknown"),
    [("an4", 0.0), ("digits", 0.0), ("speechcommands", 0.0), ("librispeech", 0.012)],
)
def test_few_words_of_development_speech_are_unknown(
    model: NgramModel, corpus: str, most_unknown: float
) -> None:
    _, *rows = (SPEECH / corpus / "dev.tsv").read_text().splitlines()
    words = [word for row in rows for word in row.split("\t")[3].split()]
    assert sum(word not in model for word in words) / len(words) <= most_unknown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"garbage garbage\n", "is not a KenLM model"),
        (bytes(range(256)) * 100, "is not a KenLM model"),
        (b"\\data\\\nngram 1=1\n\xff\xfe\n", "KenLM cannot load it"),
    ],
    ids=["empty", "text", "bytes", "broken arpa"],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.kenlm"
    path.write_bytes(content)
    with pytest.raises(LanguageModelError, match=reason) as raised:
        NgramModel.load(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    assert "--no-lm" in message


def test_a_missing_model_tells_how_to_run_without(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"no language model at .*--no-lm"):
        NgramModel.load(tmp_path / "none.kenlm")
    with pytest.raises(LanguageModelError, match=r"cannot read .*--no-lm"):
        NgramModel.load(tmp_path)


@pytest.mark.parametrize("kept", [3, 60, 100, 112, 150, 5_000, 0.5, 0.99, -1000, -1])
def test_a_truncated_model_is_refused(tmp_path: Path, kept: float) -> None:
    """``kept`` bytes from the front, that share of them, or all but so many."""
    content = SHIPPED.read_bytes()
    path = tmp_path / "cut.kenlm"
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(LanguageModelError, match="--no-lm"):
        NgramModel.load(path)


def test_a_file_that_is_overwritten_does_not_take_the_model_away(tmp_path: Path) -> None:
    path = tmp_path / "copy.kenlm"
    shutil.copy(SHIPPED, path)
    script = """if True:
        import sys
        from pathlib import Path
        from streamasr.decoder.ngram import NgramModel
        model = NgramModel.load(Path(sys.argv[1]))
        Path(sys.argv[1]).write_bytes(b"")
        print(*(model.unigram(word) for word in ("play", "jazz", "zounds")))
    """
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert all(float(score) < 0 for score in run.stdout.split())
