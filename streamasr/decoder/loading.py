"""From the files that are named in the settings to a search."""

from collections.abc import Callable
from dataclasses import dataclass

from streamasr.config import DecoderConfig, ModelConfig, shipped
from streamasr.decoder.alphabet import Alphabet
from streamasr.decoder.beam import LexiconSearch
from streamasr.decoder.catalogue import Catalogue
from streamasr.decoder.characters import CharacterSearch
from streamasr.decoder.classes import ClassModel
from streamasr.decoder.expected import Expected, Search
from streamasr.decoder.interpolated import InterpolatedModel
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.ngram import NgramModel
from streamasr.decoder.pronounce import pronounce
from streamasr.decoder.scorer import LanguageModel
from streamasr.errors import ConfigError


def load_language_model(model: ModelConfig) -> NgramModel:
    """The language model that ``model`` names, with the user's own beside it where one is named.

    Raises LanguageModelError.
    """
    general = NgramModel.load(model.language_model or shipped("lm", "english.kenlm"))
    if model.own_language_model is None:
        return general
    own = NgramModel.load(model.own_language_model)
    return InterpolatedModel(own, general, model.own_weight)


@dataclass(frozen=True, slots=True)
class LoadedSearch:
    """A search, the pronunciations of the words it was made with, and a sentence for each name
    of the catalogue that it cannot hear."""

    search: Search
    lexicon: Lexicon
    unspoken: tuple[str, ...] = ()


def load_search(
    model: ModelConfig,
    decoder: DecoderConfig,
    alphabet: Alphabet,
    loaded: Callable[[str], None] = lambda _: None,
) -> LoadedSearch:
    """The search that ``model`` describes, in labels of ``alphabet``; ``loaded`` is told of each
    part that is there.

    Raises LanguageModelError for a file that is missing or damaged, ConfigError for phrases or
    a catalogue that cannot be used, KeyError for a phone that is not in the alphabet.
    """
    lexicon = Lexicon.load(model.lexicon or shipped("lm", "lexicon.txt.xz"))
    loaded("lexicon")
    ngrams = load_language_model(model) if model.use_language_model else None
    loaded("language model")
    expected = Expected.load(model.hot_phrases, model.phrases)
    if model.units == "characters":
        if model.catalogue is not None:
            raise ConfigError("a catalogue needs --units phones")
        characters = CharacterSearch(alphabet, ngrams, list(lexicon), decoder)
        loaded("search")
        return LoadedSearch(expected.search(characters, lexicon, decoder), lexicon)
    unspoken: list[str] = []
    language_model: LanguageModel | None = ngrams
    if model.catalogue is not None:
        if ngrams is None:
            raise ConfigError("a catalogue needs the language model: leave --no-lm out")
        catalogue = Catalogue.load(model.catalogue)
        unspoken += catalogue.unspoken
        with_names = ClassModel(ngrams, catalogue.classes)
        new = [word for word in sorted(with_names.words) if word not in lexicon]
        lexicon = Lexicon({**lexicon, **pronounce(new, unspoken)})
        language_model = with_names
    search = LexiconSearch.of(alphabet, lexicon, language_model, decoder)
    loaded("search")
    return LoadedSearch(expected.search(search, lexicon, decoder), lexicon, tuple(unspoken))
