"""Who may connect: which web pages, which programs, from where."""

from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from streamasr.config import ServeConfig
from streamasr.errors import ConfigError
from streamasr.serve.access import (
    Access,
    Refusal,
    RequestHeaders,
    allowed_networks,
    is_allowed,
    load_token,
    refuse_reason,
    tls_context,
)
from streamasr.serve.doors import bind


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "some.name"])
def test_an_address_for_other_machines_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--token-file"):
        Access.of(ServeConfig(host=host))
    token_file = tmp_path / "new" / "token"
    access = Access.of(ServeConfig(host=host, token_file=token_file))
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert access.is_token(token_file.read_text().strip())
    assert access == Access.of(ServeConfig(host=host, token_file=token_file))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_alone_is_served(host: str) -> None:
    assert Access.of(ServeConfig(host=host)).token is None
    with bind(host, 0) as listening:
        assert listening.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("mode", "content", "says"),
    [
        (0o640, "a-long-enough-token", "chmod 600"),
        (0o604, "a-long-enough-token", "chmod 600"),
        (0o600, "short", "remove it"),
        (0o600, "", "remove it"),
        (0o600, "two tokens of this file", "remove it"),
        (0o600, "one-token-of-this-file\nand-another-one", "remove it"),
        (0o600, "geheimnis-ä-geheimnis", "remove it"),
    ],
)
def test_a_token_file_that_is_no_secret_is_refused(
    mode: int, content: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=says) as refusal:
        load_token(path)
    assert not content or content not in str(refusal.value)


def test_a_token_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        load_token(tmp_path / "file" / "token")


TOKEN = "Zq3-this-is-the-token"


@pytest.mark.parametrize(
    ("authorization", "right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN}", True),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN.lower()}", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_whole_token_authorizes(authorization: str | None, right: bool) -> None:
    assert Access(token=TOKEN).is_authorized(authorization) is right
    assert Access().is_authorized(authorization)
    assert TOKEN not in repr(Access(token=TOKEN))


def test_half_a_surrogate_pair_is_a_wrong_token() -> None:
    assert not Access(token=TOKEN).is_token("\ud800" + TOKEN)


@pytest.mark.parametrize(
    "request_headers",
    [
        RequestHeaders("/v1", is_websocket=True, host="127.0.0.1:8765"),
        RequestHeaders("/v1", is_websocket=True, host="localhost:8765", user_agent="python"),
        RequestHeaders("/", host="127.0.0.1", user_agent="Mozilla/5.0", fetch_site="none"),
        RequestHeaders("/", host="[::1]:1", fetch_site="cross-site", fetch_dest="document"),
        RequestHeaders("/metrics", host="obs.example", user_agent="Prometheus/3"),
        RequestHeaders("/healthz"),
    ],
)
def test_requests_without_an_origin_that_pass(request_headers: RequestHeaders) -> None:
    assert Access(allowed_origins=("https://obs.example",)).refusal(request_headers) is None


@pytest.mark.parametrize(
    "request_headers",
    [
        RequestHeaders("/v1", is_websocket=True, fetch_site="same-origin"),
        RequestHeaders("/v1", is_websocket=True, user_agent="Mozilla/5.0 (X11)"),
        RequestHeaders("/vosk", is_websocket=True, user_agent="Mozilla/5.0 (X11)"),
        RequestHeaders("/metrics", host="evil.example:8765"),
        RequestHeaders("/healthz", host="127.0.0.1", fetch_site="cross-site"),
        RequestHeaders("/", host="127.0.0.1", fetch_site="cross-site", fetch_dest="iframe"),
        RequestHeaders("/metrics", host="127.0.0.1", fetch_site="same-site", fetch_dest="document"),
        RequestHeaders("/", host="["),
    ],
)
def test_requests_without_an_origin_that_are_a_pages(request_headers: RequestHeaders) -> None:
    refusal = Access().refusal(request_headers)
    assert refusal is not None
    assert refusal.status == HTTPStatus.FORBIDDEN


def test_with_a_token_the_name_does_not_matter_but_the_origin_does() -> None:
    access = Access(own_host="0.0.0.0", token=TOKEN)
    page = RequestHeaders("/v1", True, origin="http://box.lan:8765", host="box.lan:8765")
    assert access.refusal(page) is None
    foreign = replace(page, origin="http://evil.example")
    assert access.refusal(foreign) == Refusal(
        HTTPStatus.FORBIDDEN, "a page from another origin may not connect"
    )


def test_metrics_need_the_token_and_health_does_not() -> None:
    access = Access(token=TOKEN)
    asked = RequestHeaders("/metrics", host="127.0.0.1")
    for authorization in (None, "Bearer wrong"):
        refusal = access.refusal(replace(asked, authorization=authorization))
        assert refusal is not None
        assert refusal.status == HTTPStatus.UNAUTHORIZED
    assert access.refusal(replace(asked, authorization=f"Bearer {TOKEN}")) is None
    assert access.refusal(replace(asked, path="/healthz")) is None


def test_wyoming_beyond_this_machine_needs_a_list(tmp_path: Path) -> None:
    assert allowed_networks(ServeConfig()) == ()
    with pytest.raises(ConfigError, match="wyoming_allow"):
        allowed_networks(ServeConfig(wyoming_host="0.0.0.0"))
    with pytest.raises(ConfigError, match=r"192\.168\.1\.300"):
        allowed_networks(ServeConfig(wyoming_allow=("192.168.1.300",)))
    listed = ServeConfig(
        wyoming_host="::", wyoming_allow=("192.168.1.20", "10.0.0.0/8", "fd00::/8")
    )
    networks = allowed_networks(listed)
    for address in ("192.168.1.20", "10.9.8.7", "::ffff:10.1.1.1", "fd00::1%eth0"):
        assert is_allowed(address, networks)
    for address in ("192.168.1.21", "127.0.0.1", "fe80::1%eth0"):
        assert not is_allowed(address, networks)
        assert is_allowed(address, ())


def test_tls_files_need_each_other_and_must_be_right(tmp_path: Path) -> None:
    assert tls_context(ServeConfig()) is None
    with pytest.raises(ConfigError, match="need each other"):
        tls_context(ServeConfig(tls_key=tmp_path / "key.pem"))
    missing = ServeConfig(tls_certificate=tmp_path / "a.pem", tls_key=tmp_path / "b.pem")
    with pytest.raises(ConfigError, match="No such file"):
        tls_context(missing)
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("nonsense")
    with pytest.raises(ConfigError, match=r"a\.pem"):
        tls_context(missing)
