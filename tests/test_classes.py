"""Classes of phrases in the language model, against sums and hand computations."""

import math

import pytest

from streamasr.config import shipped
from streamasr.decoder.classes import HOT_SHARE, ClassModel, PhraseClass
from streamasr.decoder.ngram import NgramModel

NAMES = {("red", "river"): 1.0, ("red",): 1.0, ("blue", "river", "song"): 2.0}


class Coin:
    """Four words of equal chance, whatever came before."""

    def start(self) -> tuple[()]:
        return ()

    def score(self, state: tuple[()], word: str) -> tuple[float, tuple[()]]:
        return math.log(0.25), state

    def finish(self, state: tuple[()]) -> float:
        return math.log(0.5)

    def unigram(self, word: str) -> float:
        return math.log(0.25)


WORDS = ("red", "blue", "river", "song")


@pytest.fixture
def model() -> ClassModel:
    return ClassModel(Coin(), [PhraseClass(NAMES, {(): 0.2, ("<s>",): 0.4})])


def test_a_word_is_the_sum_over_places(model: ClassModel) -> None:
    score, state = model.score(model.start(), "red")
    assert score == pytest.approx(math.log(0.6 * 0.25 + 0.4 * 0.5))
    inside = 0.4 * 0.25 / 0.35  # of the two "red", the one that goes on
    expected = (1 - inside) * 0.8 * 0.25 + inside * 1.0
    assert model.score(state, "river")[0] == pytest.approx(math.log(expected), abs=1e-5)
    assert model.finish(state) == pytest.approx(math.log((1 - inside) * 0.5), abs=1e-5)


def test_the_next_words_add_up_to_one_after_every_history(model: ClassModel) -> None:
    line = [model.start()]
    for _ in range(3):
        following = []
        for state in line:
            scored = [model.score(state, word) for word in WORDS]
            assert sum(math.exp(score) for score, _ in scored) == pytest.approx(1)
            following += [after for _, after in scored]
        line = following


def test_a_name_that_is_over_is_left(model: ClassModel) -> None:
    state = model.start()
    for word in ("blue", "river", "song"):
        _, state = model.score(state, word)
    assert model.score(state, "red")[0] == pytest.approx(math.log(0.8 * 0.25 + 0.2 * 0.5))


def test_states_differ_only_where_it_matters(model: ClassModel) -> None:
    one = model.score(model.score(model.start(), "song")[1], "song")[1]
    two = model.score(model.start(), "song")[1]
    assert one == two
    assert hash(one) == hash(two)


def test_carriers_of_two_words_count_before_shorter_ones() -> None:
    carriers = {(): 0.1, ("to",): 0.2, ("listen", "to"): 0.5}
    model = ClassModel(Coin(), [PhraseClass({("red",): 1.0}, carriers)])

    def chance(*history: str) -> float:
        state = model.start()
        for word in history:
            _, state = model.score(state, word)
        return (math.exp(model.score(state, "red")[0]) - 0.25) / 0.75

    assert chance("song", "to") == pytest.approx(0.2)
    assert chance("listen", "to") == pytest.approx(0.5)
    assert chance("listen", "song") == pytest.approx(0.1)


def test_hot_phrases_share_a_bounded_chance() -> None:
    few = PhraseClass.hot({("zelvaro",): 8.0})
    many = PhraseClass.hot({(f"name{number}",): 20.0 for number in range(1000)})
    assert few.chance(()) == pytest.approx(math.exp(-14.2 + 8.0))
    assert many.chance(("anything",)) == HOT_SHARE


def test_names_become_likely_and_the_rest_stays() -> None:
    ngrams = NgramModel.load(shipped("lm", "english.kenlm"))
    hot = ClassModel(ngrams, [PhraseClass.hot({("tavik", "morrenta"): 8.0})])

    def score(text: str, model: NgramModel | ClassModel) -> float:
        state, total = model.start(), 0.0
        for word in text.split():
            added, state = model.score(state, word)
            total += added
        return total

    assert score("we met tavik morrenta", hot) > score("we met tavik morrenta", ngrams) + 15
    assert score("we met in the morning", hot) == pytest.approx(
        score("we met in the morning", ngrams), abs=0.02
    )
