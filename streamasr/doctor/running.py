"""A daemon that runs already, where these settings would put one."""

import ipaddress
import json
import shlex
import ssl
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from streamasr.config import ServeConfig

ANSWER_SECONDS = 3.0


def health(config: ServeConfig) -> dict[str, Any] | None:
    """What its ``/healthz`` says; None where nobody answers, or somebody else."""
    if config.port == 0:
        return None
    scheme = "http" if config.tls_certificate is None else "https"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # of our own machine: nothing secret is sent
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    url = f"{scheme}://{_reachable(config.host)}:{config.port}/healthz"
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as response:
            answer = json.loads(response.read(65_536))
    except (URLError, OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and "microphone" in answer else None


def microphone_of_daemon(config: ServeConfig) -> str | None:
    """``ok``, ``lost``, ``muted`` or ``none``; None where no daemon runs."""
    answer = health(config)
    return None if answer is None else str(answer["microphone"])


def unmute_command(config: ServeConfig) -> str:
    """What opens the microphone of that daemon again."""
    is_secure = config.tls_certificate is not None
    url = f"{'wss' if is_secure else 'ws'}://{_reachable(config.host)}:{config.port}/v1"
    words = ["streamasr", "unmute", url]
    if config.token_file is not None:
        words += ["--token-file", str(config.token_file)]
    if is_secure:
        words += ["--ca-file", str(config.tls_certificate)]
    return shlex.join(words)


def _reachable(host: str) -> str:
    """An address for a client: that of a server may stand for all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
