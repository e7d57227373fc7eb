"""``streamasr lm build``: a language model and a lexicon of a user's own text.

::

    text ─→ sentences ─┬─ 19 of 20 ─ lmplz ─→ model ─┐
                       └─ every 20th ────────────────┴─→ weight beside the general model,
                       │                                 figures
                       ├─ all ─ lmplz ─→ model.kenlm
                       └─ words that the lexicon lacks ─ espeak-ng ─→ lexicon.txt.xz

The general model cannot be counted anew with the text: it is a binary without its texts. The two
are mixed when words are scored instead (``decoder/interpolated.py``).
"""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamasr.config import LIMITS, ModelConfig, shipped
from streamasr.decoder.interpolated import InterpolatedModel
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.loading import load_language_model
from streamasr.decoder.ngram import NgramModel
from streamasr.decoder.pronounce import pronounce
from streamasr.errors import ConfigError
from streamasr.training.kenlm_tools import build_model
from streamasr.training.own_text import UNREADABLE, OwnText

HOLD_OUT_EVERY = 20
MOST_WEIGHT = 0.5
"""What a text may give itself: more gains it little and costs other speech much (lm/README.md)."""
MODEL_NAME, LEXICON_NAME = "model.kenlm", "lexicon.txt.xz"
_NAMED = 20
"""How many unreadable things and new words are shown."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OwnModelConfig:
    """What ``streamasr lm build`` was asked; without a ``weight`` the held-out sentences choose
    one up to ``MOST_WEIGHT``."""

    texts: tuple[Path, ...]
    out: Path
    order: int = 3
    prune: str = "0"
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What models that have not seen the held-out sentences make of them.

    ``best_weight`` is the own model's under which they are likeliest.
    ``general_perplexity`` is the general model's alone, ``mixed_perplexity`` beside a model of
    the other sentences; both are of the words that the general model knows and the sentences'
    ends. ``general_unknown`` and ``mixed_unknown`` are shares of the words.
    """

    sentences: int
    best_weight: float
    general_perplexity: float
    mixed_perplexity: float
    general_unknown: float
    mixed_unknown: float


@dataclass(frozen=True, slots=True)
class Built:
    """What ``streamasr lm build`` prints.

    ``unreadable`` counts what was no word of letters and ``unreadable_words`` names the most
    frequent. ``new_words`` are those that the lexicon lacked, ``pronounced`` how the first of
    them are said now. ``ngrams`` are by order, ``bytes`` those of the model's file. ``held_out``
    is None where the text has fewer sentences than ``HOLD_OUT_EVERY``.
    """

    sentences: int
    words: int
    vocabulary: int
    unreadable: int
    unreadable_words: dict[str, int]
    new_words: int
    pronounced: dict[str, str]
    ngrams: list[int]
    bytes: int
    held_out: HeldOut | None
    weight: float
    use: str

    def as_json(self) -> dict[str, object]:
        """Plain values under the names above."""
        return asdict(self)


def build_own_model(config: OwnModelConfig, model: ModelConfig) -> Built:
    """``streamasr lm build``: write ``model.kenlm`` and ``lexicon.txt.xz`` into ``config.out``.

    The lexicon has all words of ``model``'s and the new ones. ``model`` names what stands beside
    the own model.

    Raises
    ------
    ConfigError
        The text has no word or cannot be read, the folder cannot be written, a setting is out
        of range, or KenLM's programs cannot be had.
    LanguageModelError
        The general model or lexicon cannot be loaded, or espeak-ng is missing.
    """
    _check_weight(config.weight)
    lexicon = Lexicon.load(model.lexicon or shipped("lm", "lexicon.txt.xz"))
    general = load_language_model(replace(model, own_language_model=None))
    text = OwnText.read(config.texts, known=lexicon)
    words = text.words
    vocabulary = sorted(words)
    new_words = [word for word in vocabulary if word not in lexicon]
    guessed = pronounce(new_words)
    path, lexicon_path = config.out / MODEL_NAME, config.out / LEXICON_NAME
    _make_folder(config.out)
    weight, held_out = config.weight, None
    if len(text.sentences) >= HOLD_OUT_EVERY:
        weight, held_out = _measure(text, vocabulary, general, config)
    ngrams = build_model(text.sentences, vocabulary, path, order=config.order, prune=config.prune)
    Lexicon({**lexicon, **guessed}).save(lexicon_path)
    weight = model.own_weight if weight is None else weight
    return Built(
        sentences=len(text.sentences),
        words=words.total(),
        vocabulary=len(vocabulary),
        unreadable=text.unreadable.total(),
        unreadable_words=dict(text.unreadable.most_common(_NAMED)),
        new_words=len(new_words),
        pronounced={word: " ".join(guessed[word][0]) for word in new_words[:_NAMED]},
        ngrams=ngrams,
        bytes=path.stat().st_size,
        held_out=held_out,
        weight=weight,
        use=f"streamasr serve --own-language-model {shlex.quote(str(path))} "
        f"--own-weight {weight:g} --lexicon {shlex.quote(str(lexicon_path))}",
    )


def _check_weight(weight: float | None) -> None:
    low, high = LIMITS["model.own_weight"]
    if weight is not None and not low <= weight <= high:
        raise ConfigError(f"--weight must be {low:g} to {high:g}, not {weight:g}")


def _make_folder(folder: Path) -> None:
    """Make ``folder``, or raise ConfigError where nothing can be kept in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"no model can be kept in {folder}: {error.strerror}; name another folder with --out"
        ) from None


def _measure(
    text: OwnText, vocabulary: Sequence[str], general: NgramModel, config: OwnModelConfig
) -> tuple[float, HeldOut]:
    """The weight, chosen by the held-out sentences if none is given; what a model of the
    others then makes of them."""
    held_out = text.sentences[HOLD_OUT_EVERY - 1 :: HOLD_OUT_EVERY]
    others = [s for i, s in enumerate(text.sentences, start=1) if i % HOLD_OUT_EVERY]
    with tempfile.TemporaryDirectory(prefix="streamasr-lm-") as folder:
        path = Path(folder) / MODEL_NAME
        build_model(others, vocabulary, path, order=config.order, prune=config.prune)
        own = NgramModel.load(path)
        own_scores, general_scores = (word_scores(each, held_out) for each in (own, general))
    best = best_weight(own_scores, general_scores)
    weight = min(best, MOST_WEIGHT) if config.weight is None else config.weight
    mixed_scores = word_scores(InterpolatedModel(own, general, weight), held_out)
    known = np.isfinite(general_scores)
    unreadable = sum(sentence.split().count(UNREADABLE) for sentence in held_out)
    words = len(known) - len(held_out) - unreadable
    return weight, HeldOut(
        sentences=len(held_out),
        best_weight=best,
        general_perplexity=round(float(np.exp(-general_scores[known].mean())), 1),
        mixed_perplexity=round(float(np.exp(-mixed_scores[known].mean())), 1),
        general_unknown=round((int((~known).sum()) - unreadable) / words, 4),
        mixed_unknown=round((int(np.isinf(mixed_scores).sum()) - unreadable) / words, 4),
    )


def word_scores(model: NgramModel, sentences: Sequence[str]) -> Floats:
    """Natural logs of the probabilities of all words and sentence ends; −inf for the words that
    ``model`` does not know."""
    scores = []
    for sentence in sentences:
        state = model.start()
        for word in sentence.split():
            score, state = model.score(state, word)
            scores.append(score if word in model else -np.inf)
        scores.append(model.finish(state))
    return np.array(scores)


def best_weight(own: Floats, general: Floats) -> float:
    """The weight of ``own`` under which the words are likeliest, to three places, within the
    limits of ``model.own_weight``; found by expectation maximisation.

    Both are ``(words,)`` natural logs of probabilities; words that neither knows are left out.
    """
    low, high = LIMITS["model.own_weight"]
    known = np.isfinite(own) | np.isfinite(general)
    own_p, general_p = np.exp(own[known]), np.exp(general[known])
    weight = 0.5
    for _ in range(200):
        share = weight * own_p
        weight = float(np.clip(np.mean(share / (share + (1 - weight) * general_p)), low, high))
    return round(weight, 3)
