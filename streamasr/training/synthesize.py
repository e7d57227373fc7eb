"""Sentences in, synthetic speech and a manifest out; or sounds without words.

Three free programs speak: flite, festival and espeak-ng. Every sentence gets one voice, drawn
together with its tempo and tone from the seed and the sentence itself, so the same sentence,
seed and ``--voices`` give the same voice whatever stands around it. A file is named after the
sentence and the voice: a run that was interrupted goes on where it stopped.

::

    lines ─ spoken_form ─→ sentences ─ draw_voice ─→ speak ─→ FLAC, 16 kHz mono
                                                        └──→ manifest.tsv

With ``--sounds`` it writes clips of ``sounds.py`` instead, for ``streamasr train --noise``.
"""

import argparse
import hashlib
import lzma
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rich.console
import rich.progress
import soundfile
import soxr

from streamasr.errors import ConfigError, StreamasrError
from streamasr.training.sounds import KINDS, write_clips
from streamasr.training.synthesize_options import add_arguments

SAMPLE_RATE_HZ = 16_000
PEAK = 0.7
SPEAKING_TIMEOUT_SECONDS = 120

_APT_PACKAGES = {
    "flite": "flite",
    "espeak": "espeak-ng",
    "festival": "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts",
}
_PROGRAMS = {"flite": "flite", "espeak": "espeak-ng", "festival": "text2wave"}

# Names repeat where a voice sounds natural enough to be heard more often.
_FLITE_VOICES = ("slt", "slt", "slt", "rms", "rms", "rms", "awb", "awb", "awb", "kal16")
_FESTIVAL_VOICES = ("cmu_us_slt_arctic_hts", "kal_diphone", "ked_diphone")
_ESPEAK_ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")
_ESPEAK_VARIANTS = tuple(f"m{i}" for i in range(1, 8)) + tuple(f"f{i}" for i in range(1, 6))

# The programs read these as abbreviations or numerals, not as they are spelled.
_MISREAD = re.compile(
    r"mr|mrs|ms|dr|st|ave|etc|jr|sr|vs"  # abbreviations
    r"|ii|iii|iv|v|vi|vii|viii|ix|x{1,3}(ix|iv|v?i{0,3})"  # numerals
)


Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Voice:
    """One way to say a sentence.

    ``tempo`` is the speed of speaking, 1.0 the program's own. ``tone`` shifts pitch and
    formants together, as a smaller (> 1) or larger (< 1) speaker would. ``pitch`` is
    espeak-ng's own scale, 0 to 99, and means nothing to the other programs.
    """

    program: str
    name: str
    tempo: float = 1.0
    tone: float = 1.0
    pitch: int = 50

    @property
    def speaker(self) -> str:
        """The name in the manifest: program and voice."""
        return f"{self.program}-{self.name}"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of the manifest; ``path`` is relative to it."""

    path: str
    duration_seconds: float
    speaker: str
    text: str


def spoken_form(line: str) -> str | None:
    """The line in lower case letters, apostrophes and spaces; None where that would be untrue.

    Punctuation goes, accents go. A line with digits, other scripts or symbols, or with a word
    that the programs read as an abbreviation or a numeral, has no form that is surely spoken.
    """
    decomposed = unicodedata.normalize("NFKD", line.lower().replace("\u2019", "'"))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    spaced = re.sub(r"[\s.,;:!?\"“”()\-–—…]+", " ", plain).strip()
    if not re.fullmatch(r"[a-z' ]+", spaced) or not re.search(r"[a-z]", spaced):
        return None
    words = spaced.split()
    if any(_MISREAD.fullmatch(word) for word in words):
        return None
    return " ".join(words)


def parse_voices(text: str) -> dict[str, float]:
    """``flite=4,espeak`` → ``{"flite": 4.0, "espeak": 1.0}``: programs and their shares.

    Raises ConfigError for an unknown program or a share that is not a positive number.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        program, _, share = part.strip().partition("=")
        if program not in _PROGRAMS:
            raise ConfigError(
                f"--voices: no program called {program!r}; use {', '.join(_PROGRAMS)}"
            )
        if not re.fullmatch(r"(\d+(\.\d*)?)?", share) or (share and float(share) == 0):
            raise ConfigError(f"--voices: the share of {program} must be a positive number")
        shares[program] = float(share or 1)
    return shares


def check_programs(programs: Iterable[str]) -> None:
    """Raise ConfigError, naming the Debian packages, where a program or its voices are missing."""
    for program in programs:
        if shutil.which(_PROGRAMS[program]) is None:
            missing = f"the program {_PROGRAMS[program]} is not installed"
        elif program == "festival" and (absent := _absent_festival_voices()):
            missing = f"festival lacks the voices {', '.join(absent)}"
        else:
            continue
        raise ConfigError(f"{missing}: sudo apt-get install {_APT_PACKAGES[program]}")


def draw_voice(sentence: str, voices: Mapping[str, float], seed: int) -> Voice:
    """The voice of one sentence: a function of its arguments and nothing else."""
    draw = random.Random(f"{seed} {sentence}")
    program = draw.choices(list(voices), weights=list(voices.values()))[0]
    tempo = round(draw.uniform(0.85, 1.2), 2)
    tone = round(draw.uniform(0.9, 1.12), 2)
    if program == "flite":
        return Voice(program, draw.choice(_FLITE_VOICES), tempo, tone)
    if program == "festival":
        return Voice(program, draw.choice(_FESTIVAL_VOICES), tempo, tone)
    name = f"{draw.choice(_ESPEAK_ACCENTS)}+{draw.choice(_ESPEAK_VARIANTS)}"
    return Voice(program, name, tempo, tone, pitch=draw.randint(30, 70))


def speak(sentence: str, voice: Voice) -> Samples:
    """Say a sentence in its spoken form: mono samples at SAMPLE_RATE_HZ that peak at PEAK.

    Raises StreamasrError where the program fails or says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="streamasr-speak-") as folder:
        wav = Path(folder) / "speech.wav"
        text = Path(folder) / "sentence.txt"
        text.write_text(sentence + "\n", encoding="ascii")
        # The children do the work, so they carry the low priority.
        command = ["nice", "-n", "10", *_command(voice, text, wav)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SPEAKING_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as slow:
            raise StreamasrError(f"{voice.speaker} did not finish saying {sentence!r}") from slow
        if done.returncode != 0 or not wav.exists():
            reason = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
            raise StreamasrError(f"{voice.speaker} could not say {sentence!r}: {reason}")
        samples, rate_hz = soundfile.read(wav, dtype="float32")
    # Played at another rate, a voice is that much higher and faster.
    resampled = soxr.resample(samples, rate_hz * voice.tone, SAMPLE_RATE_HZ)
    peak = float(np.abs(resampled).max(initial=0.0))
    if peak < 1e-3:
        raise StreamasrError(f"{voice.speaker} said nothing for {sentence!r}")
    spoken: Samples = (resampled * (PEAK / peak)).astype(np.float32)
    return spoken


def synthesize(
    sentences: Sequence[str],
    out_dir: Path,
    voices: Mapping[str, float],
    seed: int,
    *,
    processes: int = 2,
    console: rich.console.Console | None = None,
) -> list[Utterance]:
    """Speak each sentence (in its spoken form) into ``out_dir`` and write ``manifest.tsv`` there.

    ``voices`` are programs and their shares. Files that are there already are kept;
    the manifest is written last and lists exactly the sentences asked for, each once, in order.
    Raises ConfigError where a program is missing, StreamasrError where one fails.
    """
    check_programs(voices)
    out_dir.mkdir(parents=True, exist_ok=True)
    unique = list(dict.fromkeys(sentences))

    def say(sentence: str) -> Utterance:
        return _say_into(out_dir, sentence, draw_voice(sentence, voices, seed))

    bar = rich.progress.Progress(
        rich.progress.TextColumn("speaking"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console or rich.console.Console(stderr=True),
    )
    pool = ThreadPoolExecutor(processes)
    try:
        with bar:
            utterances = list(bar.track(pool.map(say, unique), total=len(unique)))
    finally:
        pool.shutdown(cancel_futures=True)
    write_manifest(out_dir / "manifest.tsv", utterances)
    return utterances


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all."""
    lines = ["path\tduration_seconds\tspeaker\ttext"]
    lines += [f"{u.path}\t{u.duration_seconds:.3f}\t{u.speaker}\t{u.text}" for u in utterances]
    draft = path.with_name(path.name + ".part")
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft.replace(path)


def run(arguments: argparse.Namespace) -> int:
    """Run ``streamasr synthesize``; returns the exit code. Raises StreamasrError."""
    if (arguments.sounds is None) == (not arguments.text):
        raise ConfigError("name texts to speak, or --sounds N for clips without words")
    if arguments.sounds is not None:
        seconds = write_clips(arguments.out, arguments.sounds, arguments.seed)
        clips = arguments.sounds * len(KINDS)
        print(f"{arguments.out}: {clips} clips of {len(KINDS)} kinds, {seconds / 3600:.2f} h")
        return 0
    voices = parse_voices(arguments.voices)
    check_programs(voices)
    excluded = {spoken_form(line) for name in arguments.exclude for line in _lines(name)}
    sentences: dict[str, None] = {}
    left_out = 0
    for name in arguments.text:
        for line in _lines(name):
            sentence = spoken_form(line)
            if sentence is None:
                left_out += 1
            elif (
                sentence not in excluded
                and arguments.min_words <= len(sentence.split()) <= arguments.max_words
            ):
                sentences[sentence] = None
    chosen = list(sentences)
    if arguments.limit is not None and arguments.limit < len(chosen):
        chosen = random.Random(arguments.seed).sample(chosen, arguments.limit)
    if not chosen:
        raise ConfigError("no sentence to speak: the texts are empty or every line was left out")
    utterances = synthesize(chosen, arguments.out, voices, arguments.seed)
    hours = sum(u.duration_seconds for u in utterances) / 3600
    speakers = len({u.speaker for u in utterances})
    print(
        f"{arguments.out / 'manifest.tsv'}: {len(utterances)} sentences, {hours:.2f} h, "
        f"{speakers} speakers; {left_out} lines left out (digits, symbols, abbreviations)"
    )
    return 0


def _command(voice: Voice, text: Path, wav: Path) -> list[str]:
    stretch = f"{1 / voice.tempo:.3f}"
    if voice.program == "flite":
        options = ["-voice", voice.name, "--setf", f"duration_stretch={stretch}"]
        return ["flite", *options, "-f", str(text), "-o", str(wav)]
    if voice.program == "festival":
        tempo = f"(Parameter.set 'Duration_Stretch {stretch})"
        options = ["-eval", f"(voice_{voice.name})", "-eval", tempo]
        return ["text2wave", *options, "-o", str(wav), str(text)]
    words_per_minute = str(round(165 * voice.tempo))
    options = ["-v", voice.name, "-s", words_per_minute, "-p", str(voice.pitch)]
    return ["espeak-ng", *options, "-f", str(text), "-w", str(wav)]


def _absent_festival_voices() -> list[str]:
    listing = subprocess.run(
        ["festival", "-b", "(print (voice.list))"], capture_output=True, text=True
    ).stdout
    return [name for name in _FESTIVAL_VOICES if name not in re.findall(r"\w+", listing)]


def _say_into(out_dir: Path, sentence: str, voice: Voice) -> Utterance:
    digest = hashlib.sha256(f"{voice!r} {sentence}".encode()).hexdigest()
    path = out_dir / digest[:1] / f"{digest[:16]}.flac"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(".part")
        soundfile.write(draft, speak(sentence, voice), SAMPLE_RATE_HZ, format="FLAC")
        draft.replace(path)
    seconds = soundfile.info(path).duration
    return Utterance(path.relative_to(out_dir).as_posix(), seconds, voice.speaker, sentence)


def _lines(name: str) -> Iterator[str]:
    """The lines of a text file, packed or plain, or of standard input (``-``)."""
    if name == "-":
        yield from sys.stdin
        return
    try:
        with (
            lzma.open(name, "rt", encoding="utf-8")
            if name.endswith(".xz")
            else Path(name).open(encoding="utf-8")
        ) as file:
            yield from file
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as unreadable:
        raise ConfigError(f"cannot read the text {name}: {unreadable}") from unreadable


def _main() -> int:
    parser = argparse.ArgumentParser(prog="streamasr synthesize", description=__doc__)
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except StreamasrError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(_main())
