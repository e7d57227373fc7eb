"""Sentences become speech and a manifest; the bundled recordings match their text."""

import argparse
import lzma
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.errors import ConfigError
from streamasr.training import synthesize as synthesis
from streamasr.training.synthesize import Voice, draw_voice, parse_voices, speak, spoken_form

RECORDINGS = Path(__file__).parent / "recordings"
EVERY_PROGRAM = {"flite": 4.0, "festival": 3.0, "espeak": 3.0}
SENTENCES = ["the kettle is on", "the rain has stopped", "the kettle is on", "open the window"]

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


@pytest.mark.parametrize(
    ("line", "spoken"),
    [
        ("Good morning, the café's open!\n", "good morning the cafe's open"),
        ("it’s  a well-known —song", "it's a well known song"),
        ("play track 7", None),
        ("rock & roll", None),
        ("call dr brown", None),
        ("chapter xiv begins", None),
        ("... '", None),
        ("привет", None),
    ],
)
def test_spoken_form(line: str, spoken: str | None) -> None:
    assert spoken_form(line) == spoken


def test_voices_are_programs_with_shares() -> None:
    assert parse_voices("flite=4, espeak") == {"flite": 4.0, "espeak": 1.0}


@pytest.mark.parametrize("text", ["", "flight", "flite=0", "flite=-1", "flite=lots", "flite,,"])
def test_wrong_voices_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--voices"):
        parse_voices(text)


def test_a_voice_depends_on_seed_and_sentence() -> None:
    sentences = [f"sentence {word}" for word in "abcdefghijklmnopqrstuvwxyz"]
    drawn = [draw_voice(sentence, EVERY_PROGRAM, seed=1) for sentence in sentences]
    assert drawn == [draw_voice(sentence, EVERY_PROGRAM, seed=1) for sentence in sentences]
    assert drawn != [draw_voice(sentence, EVERY_PROGRAM, seed=2) for sentence in sentences]
    assert {voice.program for voice in drawn} == set(EVERY_PROGRAM)


def test_shares_are_respected() -> None:
    drawn = [draw_voice(str(i), {"flite": 9.0, "espeak": 1.0}, seed=0) for i in range(1_000)]
    assert 850 < sum(voice.program == "flite" for voice in drawn) < 950


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"espeak-ng is not installed: .*apt-get install espeak"):
        synthesis.synthesize(SENTENCES, tmp_path / "out", {"espeak": 1.0}, seed=0)
    assert not (tmp_path / "out").exists()


@needs_espeak
def test_tempo_and_tone_make_speech_shorter() -> None:
    plain = speak("the kettle is on", Voice("espeak", "en-us"))
    faster = speak("the kettle is on", Voice("espeak", "en-us", tempo=1.3))
    higher = speak("the kettle is on", Voice("espeak", "en-us", tone=1.1))
    assert len(faster) < 0.9 * len(plain)
    assert len(higher) == pytest.approx(len(plain) / 1.1, rel=0.01)
    assert np.abs(plain).max() == pytest.approx(synthesis.PEAK)


@needs_espeak
def test_speech_files_and_manifest(tmp_path: Path) -> None:
    utterances = synthesis.synthesize(SENTENCES, tmp_path, {"espeak": 1.0}, seed=3)
    header, *rows = (tmp_path / "manifest.tsv").read_text().splitlines()
    assert header == "path\tduration_seconds\tspeaker\ttext"
    assert [row.split("\t")[3] for row in rows] == list(dict.fromkeys(SENTENCES))
    assert [u.text for u in utterances] == list(dict.fromkeys(SENTENCES))
    for row in rows:
        path, seconds, speaker, _ = row.split("\t")
        samples, rate_hz = soundfile.read(tmp_path / path)
        assert rate_hz == synthesis.SAMPLE_RATE_HZ
        assert samples.ndim == 1
        assert len(samples) / rate_hz == pytest.approx(float(seconds), abs=1e-3)
        assert 0.3 < np.abs(samples).max() < 0.9
        assert speaker.startswith("espeak-en")


@needs_espeak
def test_a_second_run_keeps_files_and_makes_the_missing_one_again(tmp_path: Path) -> None:
    utterances = synthesis.synthesize(SENTENCES, tmp_path, {"espeak": 1.0}, seed=3)
    kept, lost = (tmp_path / u.path for u in utterances[:2])
    written_at, lost_bytes = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert synthesis.synthesize(SENTENCES, tmp_path, {"espeak": 1.0}, seed=3) == utterances
    assert kept.stat().st_mtime_ns == written_at
    assert lost.read_bytes() == lost_bytes


@needs_espeak
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, packed, excluded = tmp_path / "a.txt", tmp_path / "b.txt.xz", tmp_path / "not.txt"
    plain.write_text("Open the window.\nplay track 7\nyes\n")
    with lzma.open(packed, "wt") as file:
        file.write("the rain has stopped\nthank you all\n")
    excluded.write_text("thank you, all\n")
    parser = argparse.ArgumentParser()
    synthesis.add_arguments(parser)
    out = tmp_path / "out"
    words = f"{plain} {packed} --out {out} --voices espeak --min-words 2 --exclude {excluded}"
    assert synthesis.run(parser.parse_args(words.split())) == 0
    assert "2 sentences" in capsys.readouterr().out
    rows = (out / "manifest.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[3] for row in rows] == ["open the window", "the rain has stopped"]


@needs_espeak
def test_a_text_that_is_missing_is_named(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    synthesis.add_arguments(parser)
    words = f"{tmp_path}/absent.txt --out {tmp_path}/out --voices espeak"
    with pytest.raises(ConfigError, match=r"absent\.txt"):
        synthesis.run(parser.parse_args(words.split()))


def quiet_stretches(
    samples: npt.NDArray[np.float64], rate_hz: int, at_least_seconds: float
) -> list[float]:
    """Lengths in seconds of the silences of at least that length, in order."""
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    edges = np.concatenate([[0], loud, [len(samples)]])
    gaps = np.diff(edges) / rate_hz
    return [float(gap) for gap in gaps if gap >= at_least_seconds]


def test_the_bundled_recording_has_a_silence_around_each_sentence() -> None:
    sentences = (RECORDINGS / "demo.txt").read_text().splitlines()
    samples, rate_hz = soundfile.read(RECORDINGS / "demo.flac")
    assert rate_hz == synthesis.SAMPLE_RATE_HZ
    assert 20 <= len(samples) / rate_hz <= 35
    start, *after = quiet_stretches(samples, rate_hz, at_least_seconds=0.6)
    assert start >= 0.6
    assert len(after) == len(sentences)
    assert min(after) >= 1.2


@needs_flite
def test_the_bundled_recording_can_be_made_again() -> None:
    sentence = (RECORDINGS / "demo.txt").read_text().splitlines()[0]
    samples, _ = soundfile.read(RECORDINGS / "demo.flac", dtype="float32")
    spoken = speak(sentence, Voice("flite", "rms", tempo=0.83))
    start = round(0.6 * synthesis.SAMPLE_RATE_HZ)
    bundled = samples[start : start + len(spoken)]
    # FLAC keeps 16 bits; another processor may round the resampler's last bit differently.
    np.testing.assert_allclose(bundled, spoken, atol=1e-3)


@pytest.mark.skipif(
    not (Path(__file__).parents[2] / "shared" / "text").exists(),
    reason="the training texts are not beside the repository",
)
def test_the_bundled_sentences_are_not_in_the_training_texts() -> None:
    texts = Path(__file__).parents[2] / "shared" / "text"
    sentences = {spoken_form(s) for s in (RECORDINGS / "demo.txt").read_text().splitlines()}
    with lzma.open(texts / "books.txt.xz", "rt") as books:
        assert sentences.isdisjoint(line.strip() for line in books)
    assert sentences.isdisjoint((texts / "commands.txt").read_text().splitlines())
