"""Who may connect: by address, by origin, by token.

By default the daemon can be reached from its own machine only, and whoever can open a local
socket is let in; but a web page from elsewhere must not listen to somebody's microphone.
Browsers send ``Origin`` with every websocket and every script's request to another site. A
page passes where its origin is this very server under a name that cannot be rebound by a
foreign DNS server (an IP address, ``localhost``, the configured host), or one that the
settings allow. A request without an origin passes where it cannot be a page's.

An address that other machines can reach needs a token; with one, the name does not matter.
Wyoming has no place for a token: there the peers' addresses are listed.
"""

import hmac
import ipaddress
import os
import secrets
import ssl
import stat
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from streamasr.config import ServeConfig
from streamasr.errors import ConfigError

MIN_TOKEN_CHARACTERS = 16
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BEARER = "bearer "
_OTHERS = ("cross-site", "same-site")


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """What of an HTTP request decides; None where a header is missing."""

    path: str
    is_websocket: bool = False
    origin: str | None = None
    host: str | None = None
    authorization: str | None = field(default=None, repr=False)
    user_agent: str | None = None
    fetch_site: str | None = None
    fetch_dest: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP answer to who may not come in."""

    status: HTTPStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of the websocket ports."""

    own_host: str = "127.0.0.1"
    allowed_origins: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, config: ServeConfig) -> "Access":
        """Reads the token file, or makes it. Raises ConfigError: also for an address that other
        machines can reach where there is no token."""
        token = None if config.token_file is None else load_token(config.token_file)
        if token is None and not is_loopback(config.host):
            raise ConfigError(
                f"serve.host {config.host} can be reached from other machines, so clients need a"
                " token: add --token-file FILE (it is made where it is missing)"
            )
        return cls(config.host, config.allowed_origins, token)

    def refusal(self, request: RequestHeaders) -> Refusal | None:
        """Why a request is refused; None to let it in.

        A websocket without ``Authorization`` is let in even where a token is needed: its first
        message has to bring it.
        """
        if request.origin is not None:
            reason = refuse_reason(
                request.origin,
                request.host,
                own_host=self.own_host,
                allowed_origins=self.allowed_origins,
                any_name=self.token is not None,
            )
        else:
            reason = self._refuse_without_origin(request)
        if reason is not None:
            return Refusal(HTTPStatus.FORBIDDEN, reason)
        if self.token is None:
            return None
        if request.authorization is not None and not self.is_authorized(request.authorization):
            return Refusal(HTTPStatus.UNAUTHORIZED, "the token is wrong")
        if request.authorization is None and request.path == "/metrics":
            return Refusal(HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer TOKEN")
        return None

    def is_authorized(self, authorization: str | None) -> bool:
        """Whether this ``Authorization`` header is enough; so is none where no token is needed."""
        if self.token is None:
            return True
        text = authorization or ""
        return text.lower().startswith(_BEARER) and self.is_token(text[len(_BEARER) :].strip())

    def is_token(self, candidate: str) -> bool:
        """Compared in constant time."""
        if self.token is None:
            return True
        given = candidate.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self.token.encode())

    def _refuse_without_origin(self, request: RequestHeaders) -> str | None:
        """A browser's websocket always has an origin; its plain requests may have none."""
        is_browser = request.fetch_site is not None or "Mozilla/" in (request.user_agent or "")
        if request.is_websocket and is_browser:
            return "a browser's websocket without an Origin"
        is_visit = request.path == "/" and request.fetch_dest == "document"
        if request.fetch_site in _OTHERS and not is_visit:
            return "a page from another origin may not ask"
        if self.token is None and request.host is not None:
            try:
                hostname = urlsplit(f"//{request.host}").hostname or ""
            except ValueError:
                return "the Host header is malformed"
            allowed = {urlsplit(origin).hostname for origin in self.allowed_origins}
            if hostname not in allowed and not _is_safe_name(hostname, self.own_host):
                return (
                    f"nothing is served under the name {hostname[:60]!r}: use the address, or"
                    " list http://NAME in serve.allowed_origins"
                )
        return None


def refuse_reason(
    origin: str | None,
    host: str | None,
    *,
    own_host: str,
    allowed_origins: Collection[str],
    any_name: bool = False,
) -> str | None:
    """Why a request with these ``Origin`` and ``Host`` headers is refused; None to let it in.

    ``any_name``: a page of this server passes under whatever name it was asked for.
    """
    if origin is None or origin in allowed_origins:
        return None
    try:
        page = urlsplit(origin)
        server = urlsplit(f"//{host or ''}")
        same = (page.hostname, page.port or _default_port(page.scheme)) == (
            server.hostname,
            server.port or _default_port(page.scheme),
        )
    except ValueError:
        return "the Origin or Host header is malformed"
    if page.scheme not in ("http", "https") or page.hostname is None or not same:
        return "a page from another origin may not connect"
    if not any_name and not _is_safe_name(page.hostname, own_host):
        return f"pages under the name {page.hostname[:60]!r} are not served"
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``: an address, or the name ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_token(path: Path) -> str:
    """The secret in ``path``; a new file, readable by its owner only, where there is none.

    Raises ConfigError where others could read it, or where it holds no token.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as error:
        raise ConfigError(f"cannot make the token file {path}: {error.strerror}") from None
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    print(f"streamasr: wrote a new token to {path}", file=sys.stderr)
    return token


def _read_token(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"others may read the token file {path}: chmod 600 {path}")
            token = file.read(4096).strip()
    except OSError as error:
        raise ConfigError(f"cannot read the token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the token file {path} does not hold one token of at least {MIN_TOKEN_CHARACTERS}"
            " letters and digits: remove it, and a new one is made"
        )
    return token


def tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """For ``wss://``; None where no certificate is configured. Raises ConfigError."""
    certificate, key = config.tls_certificate, config.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("serve.tls_certificate and serve.tls_key need each other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # SSLError is one
        problem = error.strerror or str(error)
        raise ConfigError(
            f"cannot use the certificate {certificate} with the key {key}: {problem}"
        ) from None
    return context


def allowed_networks(config: ServeConfig) -> tuple[Network, ...]:
    """Who may use the Wyoming port; empty for everybody on this machine. Raises ConfigError."""
    try:
        networks = tuple(ipaddress.ip_network(each) for each in config.wyoming_allow)
    except ValueError as error:
        raise ConfigError(f"serve.wyoming_allow: {error}") from None
    if not networks and not is_loopback(config.wyoming_host):
        raise ConfigError(
            f"serve.wyoming_host {config.wyoming_host} can be reached from other machines, and"
            " Wyoming has no tokens: list who may use it, as in"
            ' wyoming_allow = ["192.168.1.20", "10.0.0.0/8"]'
        )
    return networks


def is_allowed(address: str, networks: Collection[Network]) -> bool:
    """Whether a client at ``address`` may use the Wyoming port; no networks let everybody in."""
    client = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return not networks or any(client in network for network in networks)


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _is_safe_name(hostname: str, own_host: str) -> bool:
    if hostname in ("localhost", own_host):
        return True
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
