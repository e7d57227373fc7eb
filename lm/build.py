"""Build the shipped language model and lexicon from plain text.

    python lm/build.py              writes lm/english.kenlm and lm/lexicon.txt.xz, prints figures
    python lm/build.py --compare    measures other recipes instead and writes nothing

Texts: ``books.txt.xz``, ``commands.txt`` and ``cmudict.txt.xz`` of the text folder, and the
``train.tsv`` transcripts of the speech folder. Every 20th command line is held out to measure
with, and no ``dev.tsv`` enters any corpus. lmplz and build_binary are taken from PATH, or
compiled once from the kenlm sources on PyPI (needs cmake, a C++ compiler and
libboost-{program-options,system,thread,test}-dev zlib1g-dev libbz2-dev liblzma-dev).
"""

import argparse
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import kenlm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from streamasr.decoder.lexicon import Lexicon  # noqa: E402
from streamasr.decoder.pronounce import pronounce  # noqa: E402

KENLM_VERSION = "0.3.0"
HOLD_OUT_EVERY = 20
MIN_COUNT_IN_CMUDICT = 1
MIN_COUNT_ELSEWHERE = 3
WORD = re.compile(r"[a-z']*[a-z][a-z']*")


@dataclass(frozen=True)
class Recipe:
    """One way to make a model: n-gram order, lmplz's pruning, weights of the small texts."""

    order: int
    prune: str
    commands_copies: int
    transcripts_copies: int


SHIPPED = Recipe(order=4, prune="0 0 1 1", commands_copies=3, transcripts_copies=1)
OTHERS = (
    Recipe(3, "0 0 1", 1, 0),
    Recipe(3, "0 0 1", 1, 1),
    Recipe(3, "0 0 1", 3, 1),
    Recipe(3, "0 0 1", 10, 1),
    Recipe(3, "0 0 0", 3, 1),
    Recipe(4, "0 1 1 2", 3, 1),
    Recipe(4, "0 0 1 2", 3, 1),
    Recipe(4, "0 0 1 1", 3, 1),
)


@dataclass(frozen=True)
class Texts:
    """The corpora, one sentence a line, and the texts to measure with."""

    books: list[str]
    commands: list[str]
    transcripts: list[str]
    measured: dict[str, list[str]]

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


def build_model(texts: Texts, vocabulary: list[str], recipe: Recipe, output: Path) -> list[int]:
    """Write the quantised binary model of a recipe; return its n-gram counts by order."""
    tools = _tools(_cache_folder())
    with tempfile.TemporaryDirectory() as folder:
        corpus, words, arpa = (Path(folder) / name for name in ("corpus", "words", "arpa"))
        words.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        with corpus.open("w", encoding="utf-8") as out:
            for lines, copies in (
                (texts.books, 1),
                (texts.commands, recipe.commands_copies),
                (texts.transcripts, recipe.transcripts_copies),
            ):
                for _ in range(copies):
                    out.writelines(f"{line}\n" for line in lines)
        settings = f"-o {recipe.order} --prune {recipe.prune} -S 2G -T".split()
        files = ["--limit_vocab_file", words, "--text", corpus, "--arpa", arpa]
        _run([tools / "lmplz", *settings, f"{folder}/", *files])
        # 8-bit probabilities and back-offs, 22-bit pointers
        _run([tools / "build_binary", "-q", 8, "-b", 8, "-a", 22, "trie", arpa, output])
        with arpa.open(encoding="utf-8") as written:
            header = [next(written) for _ in range(recipe.order + 1)]
    return [int(line.split("=")[1]) for line in header[1:]]


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


def compare(texts: Texts, vocabulary: list[str]) -> None:
    """Print a table of recipes, size against perplexity; keep no model."""
    print(f"| order | pruning | commands × | transcripts × | MB | {' | '.join(texts.measured)} |")
    print("|---" * (5 + len(texts.measured)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "model"
        for recipe in OTHERS:
            build_model(texts, vocabulary, recipe, binary)
            figures = [f"{value:.1f}" for value, _ in measure(texts, binary).values()]
            print(
                f"| {recipe.order} | `{recipe.prune}` | {recipe.commands_copies} "
                f"| {recipe.transcripts_copies} | {binary.stat().st_size / 1e6:.1f} "
                f"| {' | '.join(figures)} |",
                flush=True,
            )


def ship(texts: Texts, vocabulary: list[str], dictionary: Lexicon, output: Path) -> None:
    """Write the model and the lexicon, and print the figures for the README."""
    binary, lexicon = output / "english.kenlm", output / "lexicon.txt.xz"
    output.mkdir(parents=True, exist_ok=True)
    build_lexicon(vocabulary, dictionary).save(lexicon)
    ngrams = build_model(texts, vocabulary, SHIPPED, binary)
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


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamasr"


def _tools(cache: Path) -> Path:
    """Return the folder of lmplz and build_binary; compile them where PATH has none."""
    found = shutil.which("lmplz")
    if found and (Path(found).parent / "build_binary").is_file():
        return Path(found).parent
    sources = cache / f"kenlm-{KENLM_VERSION}"
    binaries = sources / "build" / "bin"
    if not (binaries / "lmplz").is_file() or not (binaries / "build_binary").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        settings = ["-q", "--no-deps", "--no-binary", "kenlm", "-d", cache]
        _run([sys.executable, "-m", "pip", "download", *settings, f"kenlm=={KENLM_VERSION}"])
        with tarfile.open(cache / f"kenlm-{KENLM_VERSION}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
        settings = ["-DCMAKE_BUILD_TYPE=Release", "-DCOMPILE_TESTS=OFF"]
        _run(["cmake", "-S", sources, "-B", sources / "build", *settings])
        _run(["cmake", "--build", sources / "build", "--target", "lmplz", "build_binary"])
    return binaries


def _run(command: list[object]) -> None:
    """Run a program; on failure show the end of what it said and stop."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SystemExit(f"{command[0]} is not installed; see --help for what is needed") from error
    if done.returncode:
        tail = (done.stderr or done.stdout)[-2000:]
        raise SystemExit(f"{tail}\n{command[0]} failed with exit code {done.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, default=ROOT / ".." / "shared" / "text")
    parser.add_argument("--speech", type=Path, default=ROOT / ".." / "shared" / "speech")
    parser.add_argument("--output", type=Path, default=ROOT / "lm", help="folder to write to")
    parser.add_argument("--compare", action="store_true", help="measure recipes, write nothing")
    options = parser.parse_args()
    texts = Texts.read(options.text, options.speech)
    dictionary = Lexicon.load(options.text / "cmudict.txt.xz")
    vocabulary = choose_vocabulary(texts, dictionary)
    if options.compare:
        compare(texts, vocabulary)
    else:
        ship(texts, vocabulary, dictionary, options.output)


if __name__ == "__main__":
    main()
