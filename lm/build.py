"""Build the shipped language model and lexicon from plain text.

    python lm/build.py                          writes english.kenlm and lexicon.txt.xz into lm,
                                                prints figures
    python lm/build.py --compare --keep DIR     measures models of other sizes instead, and keeps
                                                them in DIR: a second run counts nothing again

Texts: ``books.txt.xz``, ``commands.txt`` and ``cmudict.txt.xz`` of the text folder, and the
``train.tsv`` transcripts of the speech folder. Every 20th command line is held out to measure
with, and no ``dev.tsv`` enters any corpus. KenLM's lmplz and build_binary are taken from PATH, or
compiled once (streamasr/training/kenlm_tools.py).
"""

import argparse
import hashlib
import lzma
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import kenlm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig  # noqa: E402
from streamasr.decoder.beam import LexiconSearch  # noqa: E402
from streamasr.decoder.lexicon import Lexicon  # noqa: E402
from streamasr.decoder.ngram import NgramModel  # noqa: E402
from streamasr.decoder.pronounce import pronounce  # noqa: E402
from streamasr.errors import StreamasrError  # noqa: E402
from streamasr.recognizer import Recognizer  # noqa: E402
from streamasr.training.kenlm_tools import build_model  # noqa: E402
from streamasr.training.tune import hear, score  # noqa: E402

HOLD_OUT_EVERY = 20
MIN_COUNT_IN_CMUDICT = 1
MIN_COUNT_ELSEWHERE = 3
WORD = re.compile(r"[a-z']*[a-z][a-z']*")


COMMANDS_COPIES = 3
COMPARED_TEXTS = ("librispeech dev", "speechocean dev", "commands held out")
COMPARED_SPEECH = ("librispeech", "speechocean")


@dataclass(frozen=True)
class Recipe:
    """One way to make a model: n-gram order and lmplz's pruning."""

    order: int
    prune: str

    @property
    def name(self) -> str:
        """What a kept model's file name begins with."""
        return f"{self.order}-gram-{self.prune.replace(' ', '-')}"


SHIPPED = Recipe(order=4, prune="0 0 1 1")
COMPARED = (
    Recipe(3, "0 6 9"),
    Recipe(4, "0 2 2 3"),
    Recipe(4, "0 1 1 2"),
    Recipe(3, "0 0 1"),
    SHIPPED,
    Recipe(3, "0 0 0"),
)
"""From small to large: about 5, 10, 17, 22, 28 and 47 MB."""


@dataclass(frozen=True)
class Texts:
    """The corpora, one sentence a line, and the texts to measure with."""

    books: list[str]
    commands: list[str]
    transcripts: list[str]
    measured: dict[str, list[str]]

    @property
    def corpus(self) -> Iterator[str]:
        """Every sentence that a model is counted of, the commands ``COMMANDS_COPIES`` times."""
        yield from self.books
        for _ in range(COMMANDS_COPIES):
            yield from self.commands
        yield from self.transcripts

    @classmethod
    def read(cls, text_folder: Path, speech_folder: Path) -> "Texts":
        """Read everything; the measured texts are disjoint from the corpora by construction."""
        with lzma.open(text_folder / "books.txt.xz", "rt", encoding="utf-8") as lines:
            books = [line.strip() for line in lines]
        commands = (text_folder / "commands.txt").read_text(encoding="utf-8").splitlines()
        measured = {
            f"{path.parent.name} dev": list(_transcripts(path))
            for path in sorted(speech_folder.glob("*/dev.tsv"))
        }
        measured["commands held out"] = commands[::HOLD_OUT_EVERY]
        return cls(
            books=books,
            commands=[line for i, line in enumerate(commands) if i % HOLD_OUT_EVERY],
            transcripts=[
                text
                for path in sorted(speech_folder.glob("*/train.tsv"))
                for text in _transcripts(path)
            ],
            measured=measured,
        )


def _transcripts(manifest: Path) -> Iterator[str]:
    """Yield the text column of a manifest."""
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    column = header.split("\t").index("text")
    for row in rows:
        yield row.split("\t")[column]


def choose_vocabulary(texts: Texts, dictionary: Lexicon) -> list[str]:
    """Return the words the model knows, sorted.

    Every word of the commands and transcripts, and the words of the books that CMUdict has or
    that come at least ``MIN_COUNT_ELSEWHERE`` times: rarer ones are mostly misprints.
    """
    counts = _counts(texts.books)
    words = {
        word
        for word, count in counts.items()
        if count >= (MIN_COUNT_IN_CMUDICT if word in dictionary else MIN_COUNT_ELSEWHERE)
    }
    words |= _counts(texts.commands).keys() | _counts(texts.transcripts).keys()
    words |= set("abcdefghijklmnopqrstuvwxyz")
    return sorted(word for word in words if WORD.fullmatch(word))


def _counts(lines: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line.split())
    return counts


def build_lexicon(vocabulary: list[str], dictionary: Lexicon) -> Lexicon:
    """Pronounce the whole vocabulary: as CMUdict does, otherwise as espeak-ng does."""
    missing = [word for word in vocabulary if word not in dictionary]
    guessed = pronounce(missing)
    print(f"lexicon: {len(vocabulary) - len(missing)} words of CMUdict, {len(missing)} guessed")
    return Lexicon({word: dictionary.get(word) or guessed[word] for word in vocabulary})


def perplexity(model: kenlm.Model, lines: Iterable[str]) -> tuple[float, float]:
    """Return perplexity over known words and sentence ends, and the share of unknown words."""
    log10_sum, scored, unknown, words = 0.0, 0, 0, 0
    for line in lines:
        tokens = line.split()
        words += len(tokens)
        for log10_probability, _, is_unknown in model.full_scores(line):
            if is_unknown:
                unknown += 1
            else:
                log10_sum += log10_probability
                scored += 1
    return 10 ** (-log10_sum / scored), unknown / words


def measure(texts: Texts, binary: Path) -> dict[str, tuple[float, float]]:
    """Return perplexity and share of unknown words for each measured text."""
    model = kenlm.Model(str(binary))
    return {name: perplexity(model, lines) for name, lines in texts.measured.items()}


def compare(
    texts: Texts, vocabulary: list[str], lexicon: Lexicon, speech: Path, every: int, keep: Path
) -> None:
    """Print a table of models: size against perplexity, load time and word error rate.

    The word error rates are of every ``every``-th dev recording, offline, with the decoder's
    default settings. Models stay in ``keep``, under names that tell their recipe and their
    texts, and are counted only where they are not there yet.
    """
    started = time.perf_counter()
    keep.mkdir(parents=True, exist_ok=True)
    recognizer = Recognizer.load(
        ModelConfig(use_language_model=False), DecoderConfig(), EndpointConfig()
    )
    heard = {
        f"{name} 1/{every}": hear(recognizer, speech / name / "dev.tsv", every)
        for name in COMPARED_SPEECH
    }
    digest = _digest_of(texts, vocabulary)
    columns = ["order", "pruning", "MB", *COMPARED_TEXTS, "load s"]
    columns += [f"WER {name}" for name in heard]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for recipe in COMPARED:
        binary = keep / f"{recipe.name}-{digest}.kenlm"
        if not binary.exists():
            build_model(texts.corpus, vocabulary, binary, **asdict(recipe))
        NgramModel.load(binary)  # so that the time is of a file in the system's memory
        load_started = time.perf_counter()
        model = NgramModel.load(binary)
        load_seconds = time.perf_counter() - load_started
        search = LexiconSearch.of(recognizer.search.alphabet, lexicon, model, DecoderConfig())
        figures = [
            str(recipe.order),
            f"`{recipe.prune}`",
            f"{binary.stat().st_size / 1e6:.1f}",
            *(
                f"{perplexity(model.kenlm_model, texts.measured[name])[0]:.1f}"
                for name in COMPARED_TEXTS
            ),
            f"{load_seconds:.3f}",
            *(f"{score(search, part).wer:.4f}" for part in heard.values()),
        ]
        print(f"| {' | '.join(figures)} |", flush=True)
    parts = ", ".join(f"{name}: {len(part)} recordings" for name, part in heard.items())
    print(f"{parts}; {time.perf_counter() - started:.0f} s in all")


def _digest_of(texts: Texts, vocabulary: list[str]) -> str:
    """Eight hex digits that tell these texts and this vocabulary from others."""
    digest = hashlib.sha256("\n".join(vocabulary).encode())
    for line in texts.corpus:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:8]


def ship(texts: Texts, vocabulary: list[str], dictionary: Lexicon, output: Path) -> None:
    """Write the model and the lexicon, and print the figures for the README."""
    binary, lexicon = output / "english.kenlm", output / "lexicon.txt.xz"
    output.mkdir(parents=True, exist_ok=True)
    build_lexicon(vocabulary, dictionary).save(lexicon)
    ngrams = build_model(texts.corpus, vocabulary, binary, **asdict(SHIPPED))
    for name in ("books", "commands", "transcripts"):
        lines = getattr(texts, name)
        print(f"{name}: {len(lines)} lines, {sum(len(line.split()) for line in lines)} words")
    print(f"vocabulary: {len(vocabulary)} words; n-grams by order: {ngrams}")
    print("| text | perplexity | unknown words |\n|---|---|---|")
    for name, (value, unknown) in measure(texts, binary).items():
        print(f"| {name} | {value:.1f} | {unknown:.2%} |")
    for path in (binary, lexicon):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{digest}  {path.name}  {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, default=ROOT / ".." / "shared" / "text")
    parser.add_argument("--speech", type=Path, default=ROOT / ".." / "shared" / "speech")
    parser.add_argument("--output", type=Path, default=ROOT / "lm", help="folder to write to")
    parser.add_argument("--compare", action="store_true", help="measure models of other sizes")
    parser.add_argument("--every", type=int, default=4, help="dev recordings that --compare hears")
    parser.add_argument("--keep", type=Path, help="folder for the models of --compare")
    options = parser.parse_args()
    try:
        run(options)
    except StreamasrError as error:
        raise SystemExit(f"lm/build.py: {error}") from None


def run(options: argparse.Namespace) -> None:
    texts = Texts.read(options.text, options.speech)
    dictionary = Lexicon.load(options.text / "cmudict.txt.xz")
    vocabulary = choose_vocabulary(texts, dictionary)
    if not options.compare:
        ship(texts, vocabulary, dictionary, options.output)
        return
    lexicon = Lexicon.load(options.output / "lexicon.txt.xz")
    if sorted(lexicon) != vocabulary:
        raise SystemExit(
            "lm/build.py: the texts have other words than the lexicon: run it without --compare"
        )
    with tempfile.TemporaryDirectory() as folder:
        keep = options.keep or Path(folder)
        compare(texts, vocabulary, lexicon, options.speech, options.every, keep)


if __name__ == "__main__":
    main()
