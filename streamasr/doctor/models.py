"""The files that recognise, and whether this machine is fast enough for them."""

import shutil
import time
from collections.abc import Iterator

from streamasr.config import Config, shipped
from streamasr.doctor.finding import UNEXPECTED, Finding, ok, problem, refused, warning
from streamasr.errors import CheckpointError, LanguageModelError, StreamasrError

SLOW_FACTOR = 0.5
"""From this real-time factor on other programs may make the daemon fall behind."""
MOST_SECONDS = 15.0
BLOCK_MS = 80
FASTER = "a smaller beam: --beam-size 100; or stop other programs: top"


def check_models(config: Config) -> Iterator[Finding]:
    """Checkpoint, language model and lexicon, each by itself; then all of them at work."""
    findings: list[Finding] = []
    for check in (_check_checkpoint, _check_language_model, _check_lexicon, _check_espeak):
        findings.append(check(config))
        yield findings[-1]
    if all(finding.state != "problem" for finding in findings):
        yield _check_recognition(config)


def _check_checkpoint(config: Config) -> Finding:
    from streamasr.acoustic.checkpoint import load_checkpoint

    path = config.model.checkpoint or shipped("checkpoints", "english.safetensors")
    try:
        return ok("checkpoint", f"{load_checkpoint(path).name} ({path})")
    except CheckpointError as error:
        return refused("checkpoint", error, f"put {path} back from the release, or leave it out")


def _check_language_model(config: Config) -> Finding:
    from streamasr.decoder.loading import load_language_model

    if not config.model.use_language_model:
        return warning("language model", "none is used: more words are wrong", "leave --no-lm out")
    path = config.model.language_model or shipped("lm", "english.kenlm")
    try:
        order = load_language_model(config.model).order
    except LanguageModelError as error:
        return refused("language model", error)
    own = config.model.own_language_model
    beside = "" if own is None else f", and {own}"
    return ok("language model", f"of order {order} ({path}{beside})")


def _check_lexicon(config: Config) -> Finding:
    from streamasr.decoder.lexicon import Lexicon

    path = config.model.lexicon or shipped("lm", "lexicon.txt.xz")
    try:
        return ok("lexicon", f"{len(Lexicon.load(path))} words ({path})")
    except LanguageModelError as error:
        return refused("lexicon", error)


def _check_espeak(config: Config) -> Finding:
    program = shutil.which("espeak-ng")
    if program is not None:
        return ok("espeak-ng", program)
    mend = "sudo apt-get install espeak-ng"
    if config.model.hot_phrases is not None or config.model.catalogue is not None:
        text = "not installed: hot phrases and catalogue need it for words that no dictionary has"
        return problem("espeak-ng", text, mend, LanguageModelError.exit_code)
    text = "not installed: hot words of clients that no dictionary has cannot be heard"
    return warning("espeak-ng", text, mend)


def _check_recognition(config: Config) -> Finding:
    """Hear the bundled recording, packet by packet."""
    from streamasr.capture.wavfile import AudioFile
    from streamasr.events import Final
    from streamasr.recognizer import Recognizer

    check = "recognition"
    path = shipped("tests", "recordings", "demo.flac")
    try:
        recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
        blocks = AudioFile(path, recognizer.sample_rate_hz, BLOCK_MS).blocks()
        stream = recognizer.stream()
        heard_samples, events = 0, []
        begin = time.perf_counter()
        for block in blocks:
            heard_samples += len(block)
            events += stream.feed(block)
            if time.perf_counter() - begin > MOST_SECONDS:
                break
        events += stream.finish()
        seconds = time.perf_counter() - begin
    except StreamasrError as error:
        return refused(check, error)
    audio_seconds = heard_samples / recognizer.sample_rate_hz
    words = sum(len(event.text.split()) for event in events if isinstance(event, Final))
    factor = seconds / audio_seconds
    text = f"{words} words in {audio_seconds:.0f} s, real-time factor {factor:.2f}"
    if factor >= 1:
        return problem(check, f"{text}: too slow for live sound", FASTER, UNEXPECTED)
    if words == 0 and config.model.phrases is None:
        text += ": it understands nothing"
        mend = "try what is shipped: streamasr doctor --input none, without --config"
        return problem(check, text, mend, CheckpointError.exit_code)
    if factor >= SLOW_FACTOR:
        return warning(check, f"{text}: there is little room", FASTER)
    return ok(check, text)
