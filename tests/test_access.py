"""Which web pages may connect."""

import pytest

from streamasr.errors import ConfigError
from streamasr.serve.access import refuse_reason
from streamasr.serve.server import bind


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_for_other_machines_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="ssh tunnel"):
        bind(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_alone_is_served(host: str) -> None:
    with bind(host, 0) as listening:
        assert listening.getsockname()[1] > 0
