"""Forced alignment with the shipped network on the bundled recording."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.acoustic.model import AcousticModel
from streamasr.config import FeatureConfig, shipped
from streamasr.decoder.alphabet import PHONE_ALPHABET
from streamasr.decoder.lexicon import Lexicon
from streamasr.frontend.logmel import LogMel
from streamasr.training.align import align, open_alignments, places_to_cut
from streamasr.training.batches import Alignment, Cut, pieces
from streamasr.training.features import Utterance, open_features
from streamasr.training.manifest import Manifest, Recording

RECORDINGS = Path(__file__).parent / "recordings"
LEXICON = Lexicon({"a": (("AH",), ("EY",)), "cat": (("K", "AE", "T"),)})


def path(*labels: str) -> np.ndarray:
    """Log-probabilities that are all but sure of one label a step, "" the blank."""
    tokens = [PHONE_ALPHABET.ids([label])[0] if label else 0 for label in labels]
    log_probs = np.full((len(tokens), len(PHONE_ALPHABET.labels)), -10.0, np.float32)
    log_probs[np.arange(len(tokens)), tokens] = 0
    return log_probs


def test_the_spoken_pronunciation_is_found_and_where_it_lies() -> None:
    heard = path("", "EY|", "EY|", "", "", "", "K", "AE", "AE", "T|", "T|", "", "")
    words = align(heard, ["a", "cat"], LEXICON)
    assert [word.pronunciation for word in words] == [1, 0]
    assert [(word.first_step, word.end_step) for word in words] == [(1, 3), (6, 11)]
    assert align(path("AH|", ""), ["a"], LEXICON)[0].pronunciation == 0


def test_words_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words do not fit into 3 steps"):
        align(path("EY|", "", "K"), ["a", "cat"], LEXICON)


def test_cuts_fall_into_the_pauses_between_sentences(demo: np.ndarray) -> None:
    checkpoint = load_checkpoint(shipped("checkpoints", "english.safetensors"))
    lexicon = Lexicon.load(shipped("lm", "lexicon.txt.xz"))
    text = " ".join((RECORDINGS / "demo.txt").read_text().split())
    frames = LogMel(FeatureConfig())(demo)
    model = AcousticModel(checkpoint)
    words = align(model.forward(frames).phones, text.split(), lexicon)
    assert all(a.end_step <= b.first_step for a, b in pairwise(words))
    cuts = places_to_cut(frames, words, model.subsampling)
    sentences = [len(line.split()) for line in (RECORDINGS / "demo.txt").read_text().splitlines()]
    assert {cut.words for cut in cuts} >= set(np.cumsum(sentences)[:-1].tolist())
    loudness = frames.mean(1)
    assert all(loudness[cut.frame] < np.median(loudness) for cut in cuts)


def test_pieces_make_up_the_whole_at_any_speed() -> None:
    utterance = Utterance("one two three four", "s", 0.5, 100, 4000)
    known = Alignment((1, 0, 2, 0), (Cut(500, 1), Cut(900, 2), Cut(1500, 3)))
    for seed in range(20):
        parts = pieces(utterance, known, np.random.default_rng(seed))
        assert " ".join(part.text for part in parts) == utterance.text
        assert sum((part.pronunciations for part in parts), ()) == known.pronunciations
        assert sum(part.frames for part in parts) == utterance.frames
        for before, after in pairwise(parts):
            assert before.first_frame + before.frames == after.first_frame
            assert after.first_frame - utterance.first_frame in (1000, 1800, 3000)
        assert all(part.frames >= 250 for part in parts[:-1])


def test_another_lexicon_is_aligned_anew(tmp_path: Path, demo: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.flac", demo[:32_000], 16_000)
    recording = Recording(tmp_path / "a.flac", 2.0, "s", "a cat")
    store = open_features([Manifest(tmp_path, (recording,), ())], FeatureConfig(), tmp_path)
    checkpoint = shipped("checkpoints", "english.safetensors")
    reduced = Lexicon({**LEXICON, "a": (("EY",),)})
    for _ in range(2):
        open_alignments(store, checkpoint, LEXICON, tmp_path)
    assert len(list(tmp_path.glob("*.alignments.json"))) == 1
    known = open_alignments(store, checkpoint, reduced, tmp_path)
    assert len(list(tmp_path.glob("*.alignments.json"))) == 2
    assert all(each.pronunciations[0] == 0 for each in known.values())
