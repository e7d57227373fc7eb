"""Which web pages may connect."""

import pytest

from streamasr.serve.access import refuse_reason


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "anything"),
        ("http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://localhost:8765", "localhost:8765"),
        ("http://[::1]:8765", "[::1]:8765"),
        ("http://192.168.1.5", "192.168.1.5"),
        ("https://caption.box", "caption.box:443"),
        ("https://obs.example", "127.0.0.1:8765"),
    ],
)
def test_let_in(origin: str | None, host: str) -> None:
    reason = refuse_reason(
        origin, host, own_host="caption.box", allowed_origins=("https://obs.example",)
    )
    assert reason is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "127.0.0.1:8765"),
        ("http://127.0.0.1:8080", "127.0.0.1:8765"),
        ("http://localhost:8765", "127.0.0.1:8765"),
        ("http://evil.example:8765", "evil.example:8765"),
        ("null", "127.0.0.1:8765"),
        ("file://", "127.0.0.1:8765"),
        ("http://127.0.0.1:8765", None),
        ("http://127.0.0.1:99999", "127.0.0.1:99999"),
        ("http://[", "["),
        ("", ""),
    ],
)
def test_refused(origin: str, host: str | None) -> None:
    assert refuse_reason(origin, host, own_host="127.0.0.1", allowed_origins=())
