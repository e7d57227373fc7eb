"""Sounds without words: what they are, and the clips made of them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.cli import main
from streamasr.training.sounds import CLIP_SECONDS, KINDS, SAMPLE_RATE_HZ, make

SEEDS = range(5)


def power(samples: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], ...]:
    """Frequencies in Hz and the power at each."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    return np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), spectrum


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 319, 16_001, 80_000])
def test_every_kind_is_sound_of_the_length_asked_for(kind: str, count: int) -> None:
    for seed in SEEDS:
        samples = KINDS[kind](np.random.default_rng(seed), count)
        assert samples.dtype == np.float32
        assert samples.shape == (count,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
        np.testing.assert_array_equal(samples, KINDS[kind](np.random.default_rng(seed), count))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zeros"])
def test_every_kind_but_silence_varies_in_level(kind: str) -> None:
    levels_db = [
        20 * np.log10(np.sqrt(np.mean(make(kind, (2.0, 2.0), 0, number) ** 2)))
        for number in range(20)
    ]
    assert -61 < min(levels_db) < -40
    assert -30 < max(levels_db) < -11
    assert len(set(levels_db)) == 20


def test_silence_is_digital() -> None:
    assert not make("zeros", (2.0, 2.0), 0, 0).any()


def test_hum_is_of_the_mains_and_its_harmonics() -> None:
    for number in range(10):
        frequencies_hz, heard = power(make("hum", (2.0, 2.0), 0, number))
        peak_hz = frequencies_hz[heard.argmax()]
        assert peak_hz >= 50
        assert peak_hz % 50 == pytest.approx(0, abs=0.5)
        assert heard[frequencies_hz % 50 == 0].sum() > 0.99 * heard.sum()


def slope_db_an_octave(kind: str) -> float:
    """How fast the mean power falls from 62.5 Hz to 8 kHz, by the bands of seven octaves."""
    bands = []
    for number in range(4):
        frequencies_hz, heard = power(make(kind, (10.0, 10.0), 0, number))
        octaves = [
            heard[(frequencies_hz >= low) & (frequencies_hz < 2 * low)].mean()
            for low in 62.5 * 2.0 ** np.arange(7)
        ]
        bands.append(10 * np.log10(octaves))
    return float(np.polyfit(np.arange(7), np.mean(bands, axis=0), 1)[0])


def test_pink_falls_by_3_db_an_octave_and_white_does_not() -> None:
    assert slope_db_an_octave("pink") == pytest.approx(-3.01, abs=0.15)
    assert slope_db_an_octave("white") == pytest.approx(0, abs=0.15)


def test_a_breath_comes_and_goes() -> None:
    samples = make("breathing", (20.0, 20.0), 0, 0)
    levels = np.sqrt(np.mean(samples.reshape(-1, 800) ** 2, axis=1))
    assert np.quantile(levels, 0.05) < 0.05 * np.quantile(levels, 0.95)


def test_a_sound_is_a_function_of_seed_kind_number_and_length() -> None:
    asked = [
        ("music", (2.0, 3.0), 1, 0),
        ("music", (2.0, 3.0), 2, 0),
        ("music", (2.0, 3.0), 1, 1),
        ("music", (2.5, 2.5), 1, 0),
        ("pink", (2.0, 3.0), 1, 0),
    ]
    made = [make(*each) for each in asked]
    for each, samples in zip(asked, made, strict=True):
        np.testing.assert_array_equal(samples, make(*each))
    assert len({samples.tobytes() for samples in made}) == len(made)


def read(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.flac"))}


def test_clips_to_train_on_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["synthesize", "--sounds", "2"]
    assert main([*command, "--out", str(tmp_path / "a"), "--seed", "3"]) == 0
    assert "12 clips of 6 kinds" in capsys.readouterr().out
    written = read(tmp_path / "a")
    assert set(written) == {f"{kind}/0000{number}.flac" for kind in KINDS for number in (0, 1)}
    for name in written:
        samples, rate_hz = soundfile.read(tmp_path / "a" / name)
        assert rate_hz == SAMPLE_RATE_HZ
        assert samples.ndim == 1
        assert CLIP_SECONDS[0] <= len(samples) / rate_hz <= CLIP_SECONDS[1]
        assert samples.any() == (not name.startswith("zeros"))
    assert main([*command, "--out", str(tmp_path / "b"), "--seed", "3"]) == 0
    assert read(tmp_path / "b") == written
    assert main([*command, "--out", str(tmp_path / "c"), "--seed", "4"]) == 0
    assert all(read(tmp_path / "c")[name] != content for name, content in written.items())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "name texts to speak, or --sounds N"),
        (["text.txt", "--sounds", "2"], "name texts to speak, or --sounds N"),
        (["--sounds", "0"], "--sounds must be at least 1, not 0"),
    ],
)
def test_clips_that_cannot_be_meant_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert main(["synthesize", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(["synthesize", "--sounds", "1", "--out", str(tmp_path / "out")]) == 2
    assert "00000.flac cannot be written: " in capsys.readouterr().err
