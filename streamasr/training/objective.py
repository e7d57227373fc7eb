"""What training minimises: CTC on both heads, and the sequence loss on the phones."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from streamasr.acoustic.gru import Output
from streamasr.training.batches import Batch
from streamasr.training.sequence import Trigram, denominator, log_probability


@dataclass(frozen=True, slots=True)
class Loss:
    """Natural logs summed over a batch; ``total`` is what is minimised."""

    total: Tensor
    phone: float
    character: float
    sequence: float


class Objective:
    """``total`` = share of the phones x (CTC + ``sequence_share`` x denominator) + the rest x
    CTC of the characters. With ``sequence_share`` 1 the phones' part is the sequence loss of
    ``sequence.py``; a little less keeps some of CTC's pull towards the spoken labels."""

    def __init__(
        self, trigram: Trigram, subsampling: int, phone_share: float, sequence_share: float
    ) -> None:
        self._trigram = trigram
        self._subsampling = subsampling
        self._phone_share = phone_share
        self._sequence_share = sequence_share

    def __call__(self, output: Output, batch: Batch) -> Loss:
        """Score ``batch`` on what the network made of it."""
        steps = -(-batch.frame_counts // self._subsampling)
        phone, character = (
            ctc_loss(
                head.transpose(0, 1), targets, steps, counts, reduction="sum", zero_infinity=True
            )
            for head, targets, counts in (
                (output.phones, batch.phones, batch.phone_counts),
                (output.characters, batch.characters, batch.character_counts),
            )
        )
        trigram = self._trigram.to(output.phones.device)
        all_paths = output.phones.new_zeros(())
        if self._sequence_share > 0:
            all_paths = denominator(output.phones, steps, trigram).sum()
        language = sum(
            log_probability(target, trigram)
            for target in torch.split(batch.phones, batch.phone_counts.tolist())
        )
        phones = phone + self._sequence_share * all_paths
        total = self._phone_share * phones + (1 - self._phone_share) * character
        return Loss(
            total, phone.item(), character.item(), (phone + all_paths).item() - float(language)
        )
