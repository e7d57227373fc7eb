"""Error rates on a part of each dev corpus while a network is in training."""

from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.acoustic.gru import GruCtc
from streamasr.config import DecoderConfig, shipped
from streamasr.decoder.alphabet import PHONE_ALPHABET
from streamasr.decoder.beam import LexiconSearch
from streamasr.decoder.characters import greedy_text
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.ngram import NgramModel
from streamasr.training.batches import make_batch, phone_target
from streamasr.training.data import TrainingData
from streamasr.training.error_rate import ErrorRate
from streamasr.training.features import FeatureStore, Utterance
from streamasr.training.objective import Objective
from streamasr.training.plots import Example

_UTTERANCES = 40
_BATCH = 16


def dev_part(store: FeatureStore) -> list[Utterance]:
    """A part of a dev corpus, evenly over the lengths, short ones first."""
    utterances = sorted(store.utterances, key=lambda utterance: utterance.frames)
    return utterances[:: -(-len(utterances) // _UTTERANCES)]


class DevScores:
    """Scores a network offline and without endpoints, with the decoder's default settings and
    the shipped language model; ``streamasr evaluate`` measures the streaming path."""

    def __init__(
        self, data: TrainingData, objective: Objective, silence: NDArray[np.float32]
    ) -> None:
        self._data = data
        self._objective = objective
        self._silence = silence
        self._search = LexiconSearch.of(
            PHONE_ALPHABET,
            Lexicon.load(shipped("lm", "lexicon.txt.xz")),
            NgramModel.load(shipped("lm", "english.kenlm")),
            DecoderConfig(),
        )

    @torch.no_grad()
    def of(self, network: GruCtc) -> tuple[dict[str, float], list[Example]]:
        """For each corpus the sequence loss a phone (natural log), phone error rate of the
        best path, WER and CER of the search, WER of the character head's best path; as
        ``score`` the mean WER; and the transcripts."""
        figures: dict[str, float] = {}
        examples = []
        for name, store in self._data.dev:
            utterances = dev_part(store)
            loss = 0.0
            phone, word, character, greedy = (ErrorRate() for _ in range(4))
            for first in range(0, len(utterances), _BATCH):
                part = utterances[first : first + _BATCH]
                frames = [np.asarray(store.of(u), np.float32) for u in part]
                batch = make_batch(frames, part, self._data.lexicon, self._silence)
                output = network(batch.frames)
                loss += self._objective(output, batch).sequence
                for u, phones, characters in zip(
                    part, output.phones.numpy(), output.characters.numpy(), strict=True
                ):
                    steps = network.steps(u.frames)
                    heard = self._search.decode(phones[:steps])[0].text
                    said = phone_target(u, self._data.lexicon)
                    best = PHONE_ALPHABET.collapse(phones[:steps].argmax(-1).tolist())
                    phone.add([PHONE_ALPHABET.labels[token] for token in said], best)
                    word.add(u.text.split(), heard.split())
                    character.add(u.text, heard)
                    greedy.add(u.text.split(), greedy_text(characters[:steps]).split())
                    examples.append(Example(name, u.text, heard))
            figures |= {
                f"{name}_loss": round(loss / phone.length, 4),
                f"{name}_phone_error": phone.rate,
                f"{name}_wer": word.rate,
                f"{name}_cer": character.rate,
                f"{name}_greedy_wer": greedy.rate,
            }
        figures["score"] = fmean(figures[f"{name}_wer"] for name, _ in self._data.dev)
        return figures, examples
