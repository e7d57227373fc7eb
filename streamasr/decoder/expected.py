"""What one listener expects to hear, made into a search of its own."""

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamasr.config import DecoderConfig
from streamasr.decoder.beam import LexiconSearch
from streamasr.decoder.classes import ClassModel, PhraseClass
from streamasr.decoder.graph import WordGraph
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.phrases import UNKNOWN, PhraseList
from streamasr.decoder.pronounce import pronounce
from streamasr.decoder.scorer import WeightedModel
from streamasr.decoder.spoken import Words, spoken_forms
from streamasr.errors import ConfigError

HOT_WEIGHT = 8.0
"""Natural log: how much likelier than an unknown word a hot phrase is where nothing else is
asked for."""

_UNKNOWN_LABEL_COST = -2.5
"""Natural log a label of ``[unk]``. Less, and a word of the list that is spoken badly becomes
unknown; more, and foreign words become words of the list (DESIGN.md)."""

_SHOWN = 5


Search = Any
"""``LexiconSearch`` or ``CharacterSearch``: each knows its own beams only."""


@dataclass(frozen=True, slots=True)
class Expected:
    """``hot_phrases`` with the natural log by which each is likelier than an unknown word;
    ``phrases``, if there are any, are all that can be heard, ``[unk]`` among them standing for
    anything else."""

    hot_phrases: Mapping[str, float] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()

    @classmethod
    def load(cls, hot_phrases: Path | None, phrases: Path | None) -> "Expected":
        """Read files of one phrase a line; a hot phrase may have its weight after a tab.

        Raises ConfigError where a file cannot be read or is empty, or a weight is no number.
        """
        hot: dict[str, float] = {}
        hot_lines = [] if hot_phrases is None else read_phrases(hot_phrases)
        for number, line in enumerate(hot_lines, start=1):
            phrase, tab, weight = line.partition("\t")
            try:
                hot[phrase.strip()] = float(weight) if tab else HOT_WEIGHT
            except ValueError:
                raise ConfigError(
                    f"{hot_phrases}, line {number}: {weight!r} is no weight; write "
                    "'phrase', or phrase, tab and a number"
                ) from None
        return cls(hot, () if phrases is None else tuple(read_phrases(phrases)))

    def search(self, search: Search, lexicon: Lexicon, config: DecoderConfig) -> Search:
        """``search``, which knows the words of ``lexicon``, under these expectations.

        Words that ``lexicon`` lacks are pronounced as espeak-ng would. Raises ConfigError that
        names every phrase that cannot be spoken, and LanguageModelError where espeak-ng is
        needed and missing.
        """
        if not (self.hot_phrases or self.phrases):
            return search
        if not isinstance(search, LexiconSearch):
            raise ConfigError("hot phrases and phrase lists need --units phones")
        hot = self._spoken("hot phrase", self.hot_phrases)
        listed = self._spoken("phrase", [each for each in self.phrases if each != UNKNOWN])
        if self.phrases:
            has_filler = len(listed) < len(set(self.phrases))
            allowed = PhraseList([*_forms(listed), *([(UNKNOWN,)] if has_filler else [])])
            words = {word: None for form in _forms(listed) for word in form}
            if not words:
                raise ConfigError(f"a phrase list needs a phrase besides {UNKNOWN}")
            lexicon = Lexicon({**lexicon.restricted(words), **missing(words, lexicon)})
            graph = WordGraph.of(search.alphabet, lexicon, allowed)
            if has_filler:
                graph = graph.with_filler(UNKNOWN, _UNKNOWN_LABEL_COST)
            search = LexiconSearch(graph, allowed, config)
        if hot:
            scorer = search.scorer
            if not isinstance(scorer, WeightedModel) or scorer.model is None:
                raise ConfigError(
                    "hot phrases need the language model: leave --no-lm and phrase lists out"
                )
            weights: dict[Words, float] = {}
            for phrase, forms in hot.items():
                for form in forms:
                    weights[form] = max(self.hot_phrases[phrase], weights.get(form, -math.inf))
            model = ClassModel(scorer.model, [PhraseClass.hot(weights)])
            added = missing(model.words, frozenset(search.graph.words))
            weighted = WeightedModel(model, config)
            graph = search.graph.extended(weighted, added, model.words)
            search = LexiconSearch(graph, weighted, config)
        return search

    @staticmethod
    def _spoken(kind: str, phrases: Iterable[str]) -> dict[str, list[Words]]:
        spoken: dict[str, list[Words]] = {}
        mistakes = []
        for phrase in phrases:
            try:
                spoken[phrase] = spoken_forms(phrase)
            except ValueError as reason:
                mistakes.append(f"{kind} {phrase!r} ({reason})")
        if mistakes:
            more = f" and {len(mistakes) - _SHOWN} more" if len(mistakes) > _SHOWN else ""
            raise ConfigError(
                f"cannot be pronounced: {', '.join(mistakes[:_SHOWN])}{more}; write them as they "
                "are spoken, in letters a-z and digits, or leave them out"
            )
        return spoken


def read_phrases(path: Path) -> list[str]:
    """The lines of ``path`` that are not empty. Raises ConfigError where there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"phrases {path} cannot be read: {error}") from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise ConfigError(f"phrases {path} is empty: write one phrase a line")
    return lines


def missing(words: Iterable[str], known: Container[str]) -> Lexicon:
    """The pronunciations of those ``words`` that are not ``known``. Raises LanguageModelError
    where espeak-ng is needed and missing."""
    return Lexicon(pronounce([word for word in words if word not in known]))


def _forms(spoken: Mapping[str, list[Words]]) -> list[Words]:
    return [form for forms in spoken.values() for form in forms]
