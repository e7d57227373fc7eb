"""KenLM's programs, lmplz and build_binary: sentences in, an n-gram model out.

They are taken from PATH, or compiled once from KenLM's sources on PyPI into
``$XDG_CACHE_HOME/streamasr`` (``~/.cache/streamasr``).
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from streamasr.errors import ConfigError

KENLM_VERSION = "0.3.0"
ORDERS = range(2, 7)
"""What KenLM can build and load as it is compiled."""

_MEMORY = "1G"  # for sorting; what does not fit goes to temporary files
_MEND = (
    "run 'apt-get install build-essential cmake libboost-program-options-dev libboost-system-dev "
    "libboost-thread-dev libboost-test-dev zlib1g-dev libbz2-dev liblzma-dev', or put KenLM's "
    "lmplz and build_binary on PATH"
)


def build_model(
    sentences: Iterable[str], vocabulary: Sequence[str], output: Path, *, order: int, prune: str
) -> list[int]:
    """Write a KenLM trie (8-bit probabilities and back-offs, 22-bit pointers) to ``output``.

    Parameters
    ----------
    sentences
        Words between single spaces; those outside ``vocabulary`` count as unknown words.
    order
        The *n* of the n-grams, one of :data:`ORDERS`.
    prune
        For every order from 1 on the count up to which n-grams are left out, such as
        ``"0 0 1"``; the last one holds for all higher orders.

    Returns
    -------
    list
        How many n-grams it has, by order.

    Raises
    ------
    ConfigError
        The programs are missing and cannot be compiled, or refuse; the settings are out of
        range; the file cannot be written.
    """
    _check(order, prune)
    programs = find_tools()
    with tempfile.TemporaryDirectory(prefix="streamasr-lm-") as folder:
        corpus, words, arpa, binary = (
            Path(folder) / name for name in ("corpus", "words", "arpa", "binary")
        )
        words.write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
        with corpus.open("w", encoding="utf-8") as out:
            out.writelines(f"{sentence}\n" for sentence in sentences)
        # A small text may have no n-grams of some counts, from which discounts are reckoned.
        settings = ["-o", order, "--prune", *prune.split(), "-S", _MEMORY, "-T", f"{folder}/"]
        files = ["--limit_vocab_file", words, "--text", corpus, "--arpa", arpa]
        run_program([programs / "lmplz", "--discount_fallback", *settings, *files])
        quantised = ["-q", 8, "-b", 8, "-a", 22, "-T", f"{folder}/"]
        run_program([programs / "build_binary", *quantised, "trie", arpa, binary])
        with arpa.open(encoding="utf-8") as written:
            header = [next(written) for _ in range(order + 1)]
        draft = output.with_name(f"{output.name}.part")
        try:  # whole or not at all: who has the old file mapped keeps it
            shutil.copyfile(binary, draft)
            draft.replace(output)
        except OSError as error:
            raise ConfigError(
                f"cannot write {output}: {error.strerror}; choose a folder that can be written"
            ) from None
    return [int(line.split("=")[1]) for line in header[1:]]


def _check(order: int, prune: str) -> None:
    if order not in ORDERS:
        raise ConfigError(f"--order must be {ORDERS[0]} to {ORDERS[-1]}, not {order}")
    counts = prune.split()
    rising = all(count.isdecimal() for count in counts) and (
        [int(count) for count in counts] == sorted(int(count) for count in counts)
    )
    if not counts or not rising or counts[0] != "0" or len(counts) > order:
        raise ConfigError(
            f"--prune must be at most {order} whole numbers from 0 on that never fall, such as "
            f"'0 0 1', not {prune!r}"
        )


def installed_tools() -> Path | None:
    """The folder of lmplz and build_binary, on PATH or compiled before; None where there is
    none."""
    on_path = shutil.which("lmplz")
    for folder in (Path(on_path).parent if on_path else None, _cache()):
        if folder and (folder / "lmplz").is_file() and (folder / "build_binary").is_file():
            return folder
    return None


def find_tools() -> Path:
    """The folder of lmplz and build_binary, which are compiled if need be (about a minute).

    Raises ConfigError where that cannot be done.
    """
    installed = installed_tools()
    if installed is None:
        installed = _cache()
        _compile(installed)
    return installed


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "streamasr" / f"kenlm-{KENLM_VERSION}"


def _compile(programs: Path) -> None:
    """Fill the folder ``programs``, whole or not at all."""
    missing = [name for name in ("cmake", "c++") if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"lmplz cannot be compiled without {' and '.join(missing)}: {_MEND}")
    try:
        programs.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot keep lmplz in {programs.parent}: {error.strerror}; set XDG_CACHE_HOME to a "
            "folder that can be written"
        ) from None
    print(f"compiling KenLM {KENLM_VERSION}, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="kenlm-", dir=programs.parent) as folder:
        wanted = ["--no-deps", "--no-binary", "kenlm", "-d", folder]
        pip = [sys.executable, "-m", "pip", "download", "-q", *wanted]
        run_program([*pip, f"kenlm=={KENLM_VERSION}"], mend=_MEND)
        sources = Path(folder) / f"kenlm-{KENLM_VERSION}"
        with tarfile.open(f"{sources}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        settings = ["-DCMAKE_BUILD_TYPE=Release", "-DCOMPILE_TESTS=OFF"]
        run_program(["cmake", "-S", sources, "-B", sources / "build", *settings], mend=_MEND)
        targets = ["--target", "lmplz", "build_binary"]
        run_program(["cmake", "--build", sources / "build", *targets], mend=_MEND)
        shutil.rmtree(programs, ignore_errors=True)
        (sources / "build" / "bin").replace(programs)


def run_program(command: Sequence[object], *, mend: str = "") -> None:
    """Run a program to its end. Raises ConfigError with the last thing that it said."""
    name = Path(str(command[0])).name
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise ConfigError(
            f"{name} failed with exit code {done.returncode} ({said[-1]})"
            + (f": {mend}" if mend else "")
        )
