"""Who may connect. A web page from elsewhere must not listen to somebody's microphone.

Browsers send ``Origin`` with every websocket and every script request; other programs
send none and are let in, because whoever can open a local socket is already on this
machine. A page passes where its origin is this very server under a name that cannot be
rebound by a foreign DNS server: an IP address, ``localhost``, the configured host, or an
origin that the settings allow.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def refuse_reason(
    origin: str | None, host: str | None, *, own_host: str, allowed_origins: Collection[str]
) -> str | None:
    """Why a request with these ``Origin`` and ``Host`` headers is refused; None to let it in."""
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
    if not _is_safe_name(page.hostname, own_host):
        return f"pages under the name {page.hostname[:60]!r} are not served"
    return None


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
