import pytest

from streamasr.config import EndpointConfig
from streamasr.decoder.endpoint import Activity, Rule, endpoint

CONFIG = EndpointConfig(
    silence_without_words_seconds=5.0, silence_after_words_seconds=0.8, utterance_seconds=20.0
)


@pytest.mark.parametrize(
    ("silent_steps", "speech_steps", "heard_steps", "expected"),
    [
        (0, 0, 0, None),
        (124, 0, 400, None),
        (125, 0, 400, "silence_without_words"),
        (0, 0, 499, None),
        (0, 0, 500, "length"),
        (19, 30, 900, None),
        (20, 30, 60, "silence_after_words"),
        (0, 499, 900, None),
        (0, 500, 900, "length"),
        (20, 500, 900, "silence_after_words"),
    ],
)
def test_rules(
    silent_steps: int, speech_steps: int, heard_steps: int, expected: Rule | None
) -> None:
    activity = Activity(silent_steps, speech_steps, heard_steps)
    assert endpoint(activity, CONFIG, 0.04) == expected
