"""Make the bundled recording again: ``python tests/recordings/make.py``.

The sentences of ``demo.txt`` were written for this project and are kept out of the training
texts (``streamasr synthesize --exclude tests/recordings/demo.txt``). flite's voice rms reads them
unhurriedly, with silences between the sentences that are long enough to end an utterance.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamasr.training.synthesize import SAMPLE_RATE_HZ, Voice, check_programs, speak

FOLDER = Path(__file__).parent
START_SILENCE_SECONDS = 0.6
BETWEEN_SENTENCES_SECONDS = 1.2
VOICE = Voice("flite", "rms", tempo=0.83)


def silence(seconds: float) -> npt.NDArray[np.float32]:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)


def read_aloud(sentences: list[str], voice: Voice) -> npt.NDArray[np.float32]:
    """All sentences, a silence before the first and after each."""
    parts = [silence(START_SILENCE_SECONDS)]
    for sentence in sentences:
        parts += [speak(sentence, voice), silence(BETWEEN_SENTENCES_SECONDS)]
    return np.concatenate(parts)


def main() -> None:
    check_programs({VOICE.program})
    sentences = (FOLDER / "demo.txt").read_text(encoding="utf-8").splitlines()
    samples = read_aloud(sentences, VOICE)
    soundfile.write(FOLDER / "demo.flac", samples, SAMPLE_RATE_HZ)
    print(f"demo.flac: {len(samples) / SAMPLE_RATE_HZ:.1f} s")


if __name__ == "__main__":
    main()
