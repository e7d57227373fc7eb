"""Make the bundled recordings again: ``python tests/recordings/make.py``.

The sentences of ``demo.txt`` were written for this project and are kept out of the training
texts (``streamasr synthesize --exclude tests/recordings/demo.txt``). Two of flite's voices read
them, with silences between the sentences that are long enough to end an utterance:

    demo.flac        slt, a woman
    demo-rms.flac    rms, a man
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamasr.training.synthesize import SAMPLE_RATE_HZ, Voice, check_programs, speak

FOLDER = Path(__file__).parent
START_SILENCE_SECONDS = 0.6
BETWEEN_SENTENCES_SECONDS = 1.2
VOICES = {"demo.flac": Voice("flite", "slt"), "demo-rms.flac": Voice("flite", "rms")}


def silence(seconds: float) -> npt.NDArray[np.float32]:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)


def read_aloud(sentences: list[str], voice: Voice) -> npt.NDArray[np.float32]:
    """All sentences, a silence before the first and after each."""
    parts = [silence(START_SILENCE_SECONDS)]
    for sentence in sentences:
        parts += [speak(sentence, voice), silence(BETWEEN_SENTENCES_SECONDS)]
    return np.concatenate(parts)


def main() -> None:
    check_programs({voice.program for voice in VOICES.values()})
    sentences = (FOLDER / "demo.txt").read_text(encoding="utf-8").splitlines()
    for name, voice in VOICES.items():
        samples = read_aloud(sentences, voice)
        soundfile.write(FOLDER / name, samples, SAMPLE_RATE_HZ)
        print(f"{name}: {len(samples) / SAMPLE_RATE_HZ:.1f} s")


if __name__ == "__main__":
    main()
