"""Two real models as one, against sums done by hand."""

import math
from pathlib import Path

import pytest

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig, shipped
from streamasr.decoder.interpolated import InterpolatedModel
from streamasr.decoder.loading import load_language_model
from streamasr.decoder.ngram import NgramModel
from streamasr.errors import LanguageModelError
from streamasr.recognizer import Recognizer

OWN = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.0\t<unk>
0\t<s>\t-0.30103
-0.60206\t</s>
-0.60206\tplay\t-0.30103
-0.39794\tzounds\t0

\\2-grams:
-0.30103\t<s> play
-0.30103\tplay zounds

\\end\\
"""
GENERAL = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-0.69897\t<unk>
0\t<s>\t0
-0.69897\t</s>
-0.69897\tplay\t-0.30103
-0.39794\tjazz\t0

\\2-grams:
-0.30103\tplay jazz

\\end\\
"""
WORDS = ("play", "zounds", "jazz")
UNKNOWN = "gadzooks"


@pytest.fixture
def parts(tmp_path: Path) -> tuple[NgramModel, NgramModel]:
    loaded = []
    for name, arpa in (("own", OWN), ("general", GENERAL)):
        path = tmp_path / f"{name}.arpa"
        path.write_text(arpa)
        loaded.append(NgramModel.load(path))
    return loaded[0], loaded[1]


def test_probabilities_are_the_weighted_sums_of_both(
    parts: tuple[NgramModel, NgramModel],
) -> None:
    model = InterpolatedModel(*parts, 0.25)
    assert model.order == 2
    play, state = model.score(model.start(), "play")
    jazz, _ = model.score(state, "jazz")
    zounds, _ = model.score(state, "zounds")
    neither, _ = model.score(state, UNKNOWN)
    assert math.exp(play) == pytest.approx(0.25 * 0.5 + 0.75 * 0.2, rel=1e-4)
    assert math.exp(jazz) == pytest.approx(0.75 * 0.5, rel=1e-4)
    assert math.exp(zounds) == pytest.approx(0.25 * 0.5, rel=1e-4)
    assert math.exp(neither) == pytest.approx(0.25 * 0.05 + 0.75 * 0.1, rel=1e-4)
    assert math.exp(model.finish(state)) == pytest.approx(0.25 * 0.125 + 0.75 * 0.1, rel=1e-4)
    assert math.exp(model.unigram("play")) == pytest.approx(0.25 * 0.25 + 0.75 * 0.2, rel=1e-4)
    assert all(word in model for word in WORDS)
    assert UNKNOWN not in model


def test_probabilities_add_up_to_one_after_every_history(tmp_path: Path) -> None:
    """``<unk>`` is one of the words. Here each model by itself adds up to one, too."""
    parts = []
    for name, words in (("own", ("play", "zounds")), ("general", ("play", "jazz", "stop"))):
        share = math.log10(1 / (len(words) + 2))
        unigrams = "".join(f"{share}\t{word}\t0\n" for word in ("<unk>", "</s>", *words))
        # Half of what follows "play" is "play", the rest is shared as after nothing known.
        back_off = math.log10(0.5 / (1 - 10**share))
        unigrams = unigrams.replace("play\t0", f"play\t{back_off}")
        path = tmp_path / f"{name}.arpa"
        path.write_text(
            f"\\data\\\nngram 1={len(words) + 3}\nngram 2=1\n\n\\1-grams:\n0\t<s>\t0\n{unigrams}\n"
            f"\\2-grams:\n{math.log10(0.5)}\tplay play\n\n\\end\\\n"
        )
        parts.append(NgramModel.load(path))
    model = InterpolatedModel(parts[0], parts[1], 0.3)
    everything = ("play", "zounds", "jazz", "stop", "<unk>", "</s>")
    for history in ((), ("play",), ("zounds",), ("jazz", "play"), ("stop", "zounds")):
        state = model.start()
        for word in history:
            _, state = model.score(state, word)
        total = sum(math.exp(model.score(state, word)[0]) for word in everything)
        assert total == pytest.approx(1.0, abs=1e-5)


def test_states_compare_and_hash_by_value(parts: tuple[NgramModel, NgramModel]) -> None:
    model = InterpolatedModel(*parts, 0.5)
    first, again = model.score(model.start(), "play")[1], model.score(model.start(), "play")[1]
    assert first == again
    assert hash(first) == hash(again)
    assert first != model.start()
    assert model.start() == model.start()


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, math.nan])
def test_both_models_must_count(parts: tuple[NgramModel, NgramModel], weight: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        InterpolatedModel(*parts, weight)


def test_the_settings_name_both_models(tmp_path: Path) -> None:
    path = tmp_path / "own.arpa"
    path.write_text(OWN)
    model = load_language_model(ModelConfig(own_language_model=path, own_weight=0.1))
    general = NgramModel.load(shipped("lm", "english.kenlm"))
    after, before = model.score(model.start(), "the")[0], general.score(general.start(), "the")[0]
    assert math.exp(after) == pytest.approx(0.9 * math.exp(before))
    assert "zounds" in model
    with pytest.raises(LanguageModelError, match="no language model at"):
        load_language_model(ModelConfig(own_language_model=tmp_path / "none"))


def test_characters_cannot_be_searched_with_two_models(tmp_path: Path) -> None:
    path = tmp_path / "own.arpa"
    path.write_text(OWN)
    config = ModelConfig(units="characters", own_language_model=path)
    with pytest.raises(LanguageModelError, match="--own-language-model"):
        Recognizer.load(config, DecoderConfig(), EndpointConfig())
