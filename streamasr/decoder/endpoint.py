"""When an utterance ends: three named rules over counters of audio time.

The rules are those of Kaldi's online decoders, reduced to what a person sets: silence in
which nothing was recognised, silence after words, and the length of the utterance.
"""

from dataclasses import dataclass

from streamasr.config import EndpointConfig
from streamasr.events import Rule


@dataclass(frozen=True, slots=True)
class Activity:
    """What an endpoint depends on. ``silent_steps`` have passed since the last sound of
    speech, ``speech_steps`` since the utterance's first word began (0 before),
    ``heard_steps`` since the last endpoint."""

    silent_steps: int = 0
    speech_steps: int = 0
    heard_steps: int = 0


def endpoint(activity: Activity, config: EndpointConfig, step_seconds: float) -> Rule | None:
    """The rule that ends the utterance now, or None.

    The length counts from the first word; without one (a radio that plays music) from the
    last endpoint, so that it is bounded whatever is heard.
    """
    silent_seconds = activity.silent_steps * step_seconds
    if activity.speech_steps == 0:
        if silent_seconds >= config.silence_without_words_seconds:
            return "silence_without_words"
    elif silent_seconds >= config.silence_after_words_seconds:
        return "silence_after_words"
    length_steps = activity.speech_steps or activity.heard_steps
    return "length" if length_steps * step_seconds >= config.utterance_seconds else None
