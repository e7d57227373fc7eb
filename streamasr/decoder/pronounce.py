"""Pronunciations for words that no dictionary has, by the espeak-ng program."""

import re
import subprocess
from collections.abc import Sequence

from streamasr.decoder.lexicon import Phones
from streamasr.errors import LanguageModelError

# espeak-ng's own phoneme names for American English ("espeak-ng -x") in CMUdict's phones.
# One name may stand for two phones (A@ is the vowel of "car" with its r) or for none (marks).
_PHONES_OF_MNEMONIC: dict[str, Phones] = {
    # vowels
    "0": ("AA",), "A:": ("AA",), "A": ("AA",), "a": ("AE",), "aa": ("AE",),
    "a#": ("AH",), "@": ("AH",), "@2": ("AH",), "@5": ("AH",), "@-": ("AH",), "V": ("AH",),
    "a#:": ("AA",), "3": ("ER",), "3:": ("ER",), "E": ("EH",), "E2": ("EH",),
    "I": ("IH",), "I2": ("IH",), "I#": ("IH",), "i": ("IY",), "i:": ("IY",),
    "O": ("AO",), "O:": ("AO",), "O2": ("AO",), "U": ("UH",), "u:": ("UW",), "u": ("UW",),
    "a:": ("AA",), "e": ("EY",), "i::": ("IY",), "o": ("OW",),
    # diphthongs
    "aI": ("AY",), "aU": ("AW",), "eI": ("EY",), "oU": ("OW",), "OI": ("OY",),
    # vowels with r, and others that CMUdict writes as two phones
    "A@": ("AA", "R"), "o@": ("AO", "R"), "O@": ("AO", "R"), "e@": ("EH", "R"),
    "U@": ("UH", "R"), "i@3": ("IH", "R"), "aI3": ("AY", "ER"), "aI@": ("AY", "AH"),
    "aU@": ("AW", "ER"), "i@": ("IY", "AH"), "@L": ("AH", "L"), "n-": ("AH", "N"),
    "m-": ("AH", "M"), "A~": ("AA", "N"), "O~": ("AO", "N"),
    # consonants
    "b": ("B",), "tS": ("CH",), "d": ("D",), "D": ("DH",), "f": ("F",), "g": ("G",),
    "h": ("HH",), "dZ": ("JH",), "k": ("K",), "l": ("L",), "l#": ("L",), "m": ("M",),
    "n": ("N",), "N": ("NG",), "p": ("P",), "r": ("R",), "r-": ("R",), "s": ("S",),
    "S": ("SH",), "t": ("T",), "t#": ("T",), "t2": ("T",), "?": ("T",), "T": ("TH",),
    "v": ("V",), "w": ("W",), "j": ("Y",), "z": ("Z",), "Z": ("ZH",),
    "x": ("K",), "C": ("K",),
    # palatalisation, pauses
    ";": (), "": (),
}  # fmt: skip

_STRESS = re.compile(r"[',=%|!]")
_ROMAN_NUMERAL = re.compile(r"^r_oU_m_@_n__? ")  # "xii" is read "roman twelve"
_I_BEFORE_VOWEL = re.compile(r"(?<![^_ ])I2?_;")  # the second i of "studio"
_VOICELESS = frozenset({"F", "K", "P", "T", "TH"})
_WORD = re.compile(r"[a-z']*[a-z][a-z']*")


def pronounce(
    words: Sequence[str], unspoken: list[str] | None = None
) -> dict[str, tuple[Phones, ...]]:
    """Guess how words are pronounced, from their spelling, in American English.

    One espeak-ng process serves the whole batch: about 1 ms a word.

    Parameters
    ----------
    words
        Lower-case words of the letters a-z and apostrophes, at least one letter each;
        a word that comes twice is answered once.
    unspoken
        Where given, it gets a sentence for each word that espeak-ng gives no pronunciation
        that can be used, and the word is left out.

    Returns
    -------
    dict
        For every word one or more pronunciations, the likeliest first.

    Raises
    ------
    ValueError
        A word has other characters than those, or no letter.
    LanguageModelError
        espeak-ng is missing or failed; or, without ``unspoken``, there is such a word.
    """
    unique = list(dict.fromkeys(words))
    for word in unique:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} is not a word of the letters a-z and apostrophes")
    if not unique:
        return {}
    found: dict[str, tuple[Phones, ...]] = {}
    for word, mnemonics in zip(unique, _espeak(unique), strict=True):
        try:
            found[word] = (_phones(word, mnemonics),)
        except LanguageModelError as error:
            if unspoken is None:
                raise
            unspoken.append(str(error))
    return found


def _espeak(words: list[str]) -> list[str]:
    """Return espeak-ng's phoneme names for each word, joined by ``_``."""
    try:
        # Read from standard input, espeak-ng speaks each line for itself and writes one line.
        done = subprocess.run(
            ["espeak-ng", "-q", "-x", "--sep=_", "-v", "en-us"],
            input="".join(f"{word}\n" for word in words),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LanguageModelError(
            "espeak-ng, which pronounces words outside the lexicon, is not installed; "
            "run 'apt-get install espeak-ng'"
        ) from error
    spoken = done.stdout.splitlines()
    if done.returncode or len(spoken) != len(words):
        reason = done.stderr.strip().splitlines()[-1:] or [f"{len(spoken)} lines of output"]
        raise LanguageModelError(
            f"espeak-ng failed on {len(words)} words (exit code {done.returncode}: {reason[0]}); "
            "run 'apt-get install --reinstall espeak-ng espeak-ng-data'"
        )
    return spoken


def _phones(word: str, mnemonics: str) -> Phones:
    """Turn espeak-ng's names for one word, such as ``h_@_l_'oU``, into CMUdict's phones."""
    plain = _ROMAN_NUMERAL.sub("", _STRESS.sub("", mnemonics).strip())
    plain = _I_BEFORE_VOWEL.sub("i:", plain)
    phones: list[str] = []
    for mnemonic in plain.replace(" ", "_").split("_"):
        if mnemonic not in _PHONES_OF_MNEMONIC:
            raise LanguageModelError(
                f"espeak-ng pronounces {word!r} with an unknown phoneme {mnemonic!r} "
                f"({mnemonics.strip()}); give the word a pronunciation in the lexicon"
            )
        for phone in _PHONES_OF_MNEMONIC[mnemonic]:
            # espeak-ng writes the r of "berry" twice, in the vowel and after it
            if not (phone == "R" and phones and phones[-1] in ("R", "ER")):
                phones.append(phone)
    if phones[-1:] == ["Z"] and phones[-2:-1] and phones[-2] in _VOICELESS:
        phones[-1] = "S"  # the 's of "waste's"
    if not phones:
        raise LanguageModelError(
            f"espeak-ng says nothing for {word!r}; give the word a pronunciation in the lexicon"
        )
    return tuple(phones)
