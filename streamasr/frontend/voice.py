"""Is anybody speaking? So that the network may rest while nobody does.

The detector is silero-vad 6.2.3 (github.com/snakers4/silero-vad, MIT licence, in
``silero_vad.onnx``), a small recurrent network over windows of 32 ms: 0.2 ms each on one core.
It was chosen by measurement (DESIGN.md). It is shared by every stream; what a stream has heard
is a ``VoiceState``, a value.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Since 1.29 onnxruntime tells its makers of every session; it asks this once, when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 512
CONTEXT_SAMPLES = 64
MODEL = Path(__file__).with_name("silero_vad.onnx")


@dataclass(frozen=True, eq=False, slots=True)
class VoiceState:
    """What the detector remembers: ``memory`` ``(2, 1, 128)`` and the last ``context`` ``(64,)``
    samples."""

    memory: NDArray[np.float32]
    context: Samples

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoiceState):
            return NotImplemented
        return np.array_equal(self.memory, other.memory) and np.array_equal(
            self.context, other.context
        )

    __hash__ = None  # type: ignore[assignment]


class VoiceDetector:
    """The probability of a voice, window by window."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            MODEL, options, providers=["CPUExecutionProvider"]
        )

    def start(self) -> VoiceState:
        """The state of a stream that has heard nothing."""
        return VoiceState(np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT_SAMPLES, np.float32))

    def step(self, samples: Samples, state: VoiceState) -> tuple[NDArray[np.float32], VoiceState]:
        """``(n * WINDOW_SAMPLES,)`` samples in -1..1 at 16 kHz to ``(n,)`` probabilities."""
        memory, context = state.memory, state.context
        probabilities = []
        for window in samples.reshape(-1, WINDOW_SAMPLES):
            heard = np.concatenate([context, window])[None]
            feeds = {"input": heard, "state": memory, "sr": np.array(SAMPLE_RATE_HZ, np.int64)}
            probability, memory = self._session.run(None, feeds)
            context = window[-CONTEXT_SAMPLES:]
            probabilities.append(probability[0, 0])
        return np.array(probabilities, np.float32), VoiceState(memory, context.copy())
