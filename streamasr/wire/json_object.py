"""JSON objects from peers, read with care: what all protocols share.

Whatever a peer sends, only a ProtocolError comes out, and its message quotes at most
``QUOTED_CHARACTERS`` of it.
"""

import json
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

from streamasr.errors import ProtocolError

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000
MAX_CHANNELS = 8
MAX_ALTERNATIVES = 10
MAX_PHRASES = 20_000
MAX_PHRASE_CHARACTERS = 200
QUOTED_CHARACTERS = 60


def read_object(text: str) -> dict[str, object]:
    """Raises ProtocolError: ``bad_json``, or ``bad_message`` for JSON that is no object.

    NaN and Infinity, which Python reads, are no JSON.
    """
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("bad_json", f"the message is not JSON: {_cut(str(error))}") from None
    if not isinstance(message, dict):
        raise ProtocolError("bad_message", "the message is not a JSON object")
    return message


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """``value`` if it is one in ``low..high``; raises ProtocolError ``bad_value``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad_value(name, f"a whole number in {low}..{high}", value)
    return value


def phrases(name: str, value: object) -> tuple[str, ...]:
    """A list of phrases; raises ProtocolError ``bad_value``."""
    return tuple(
        phrase(f"{name}[{number}]", each) for number, each in enumerate(phrase_list(name, value))
    )


def phrase_list(name: str, value: object) -> list[object]:
    """A list that is not too long, of whatever; raises ProtocolError ``bad_value``."""
    if not isinstance(value, list) or len(value) > MAX_PHRASES:
        raise bad_value(name, f"a list of at most {MAX_PHRASES}", value)
    return value


def phrase(name: str, value: object) -> str:
    """A text with single spaces between its words; raises ProtocolError ``bad_value``.

    JSON can spell half a surrogate pair, which no program that is asked how the phrase is
    pronounced could be given, and control characters, which mean something there.
    """
    words = " ".join(value.split()) if isinstance(value, str) else ""
    if not words.isprintable():
        raise bad_value(name, "a text without control characters", value)
    if not words or len(str(value)) > MAX_PHRASE_CHARACTERS:
        raise bad_value(name, f"a text of 1..{MAX_PHRASE_CHARACTERS} characters", value)
    return words


def bad_value(name: str, expected: str, value: object) -> ProtocolError:
    """The error that says what ``name`` must be and is not."""
    return ProtocolError("bad_value", f"{name} must be {expected}, not {quote(value)}")


def quote(value: object) -> str:
    """``value`` as Python writes it, but short, however deep and long it is."""
    return _cut(_BRIEF.repr(value))


@contextmanager
def ending_the_connection() -> Iterator[None]:
    """Make every ProtocolError from inside fatal: these peers do not read errors and go on."""
    try:
        yield
    except ProtocolError as error:
        raise ProtocolError(error.code, str(error), fatal=True) from None


def _brief() -> reprlib.Repr:
    # repr() itself would write a message of megabytes, and overflow the stack on a deep one.
    brief = reprlib.Repr()
    brief.maxstring = brief.maxlong = brief.maxother = QUOTED_CHARACTERS
    brief.maxlevel = 2
    return brief


_BRIEF = _brief()


def _cut(text: str) -> str:
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[: QUOTED_CHARACTERS - 3]}..."


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
