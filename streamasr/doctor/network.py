"""Addresses, tokens and certificates."""

import os
import shlex
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from streamasr.config import Config, ServeConfig
from streamasr.doctor.finding import Finding, ok, problem, refused, warning
from streamasr.doctor.processes import is_listened_on, listeners_on
from streamasr.doctor.running import health
from streamasr.doctor.writable import why_not_writable
from streamasr.errors import AddressError, ConfigError

DAY_SECONDS = 86_400
SOON_SECONDS = 14 * DAY_SECONDS


def check_ports(config: Config) -> Iterator[Finding]:
    """Whether each is free, and who has it where it is not."""
    serve = config.serve
    for name, host, port, flag in (
        ("port", serve.host, serve.port, "--port"),
        ("vosk port", serve.host, serve.vosk_port, "--vosk-port"),
        ("wyoming port", serve.wyoming_host, serve.wyoming_port, "--wyoming-port"),
    ):
        if port is not None:
            yield _check_port(name, host, port, flag, serve)


def _check_port(name: str, host: str, port: int, flag: str, serve: ServeConfig) -> Finding:
    from streamasr.serve.doors import bind

    try:
        bind(host, port, flag).close()
        return ok(name, f"{host} port {port} is free" if port else "any free one")
    except AddressError as error:
        if not is_listened_on(port):
            return refused(name, error)
    answer = health(serve)
    holders = listeners_on(port)
    who = ", ".join(map(str, holders)) or "a process of another user"
    if answer is not None and port == serve.port:
        says = f"model {answer.get('model')}, microphone {answer['microphone']}"
        text = f"streamasr runs there already: {says}"
        if answer["microphone"] == "lost":
            mend = "plug the microphone in; streamasr devices tells what is there"
            return warning(name, text, mend)
        return ok(name, text)
    if answer is not None and set(holders) & set(listeners_on(serve.port)):
        return ok(name, f"{port} is of the streamasr that runs already")
    mend = f"choose another port with {flag}; or end who has it: "
    mend += f"kill {holders[0].pid}" if holders else f"sudo ss -ltnp 'sport = :{port}'"
    return problem(name, f"{host} port {port} is held by {who}", mend, AddressError.exit_code)


def check_access(config: Config) -> Iterator[Finding]:
    """Who may come in, the token file and the certificate."""
    from streamasr.serve.access import Access, allowed_networks

    serve = config.serve
    try:
        if serve.token_file is None or serve.token_file.exists():  # else it would be made
            Access.of(serve)
        allowed_networks(serve)
    except ConfigError as error:
        yield refused("access", error, _mend_access(serve, str(error)))
    except OSError as error:
        text = f"cannot look for the token file {error.filename}: {error.strerror}"
        mend = "name one in a folder that this user may enter: --token-file FILE"
        yield problem("access", text, mend, ConfigError.exit_code)
    else:
        yield _check_token(serve.token_file)
    if serve.tls_certificate is not None or serve.tls_key is not None:
        yield _check_tls(serve)


def _mend_access(serve: ServeConfig, message: str) -> str:
    """Most messages end with the mend, after a colon; but not those of the system."""
    path = serve.token_file
    if path is not None and path.exists() and not os.access(path, os.R_OK):
        quoted = shlex.quote(str(path))
        return f"sudo chown $USER {quoted} && chmod 600 {quoted}"
    return message.rpartition(": ")[2]


def _check_token(path: Path | None) -> Finding:
    if path is None:
        return ok("access", "programs and pages of this machine; no token is needed")
    if path.exists():
        return ok("access", f"who has the token in {path}")
    reason = why_not_writable(path)
    if reason is None:
        return ok("access", f"who has the token; {path} will be made")
    text = f"the token file {path} cannot be made: {reason}"
    mend = f"sudo install -d -o $USER {shlex.quote(str(path.parent))}"
    return problem("access", text, mend, ConfigError.exit_code)


def _check_tls(serve: ServeConfig) -> Finding:
    from streamasr.serve.access import tls_context

    check = "certificate"
    for missing, wanted in (
        ("serve.tls_certificate (--tls-certificate)", serve.tls_certificate),
        ("serve.tls_key (--tls-key)", serve.tls_key),
    ):
        if wanted is None:
            text = f"{missing} is missing; certificate and key need each other"
            return problem(check, text, f"set {missing}, or neither", ConfigError.exit_code)
    try:
        context = tls_context(serve)
        assert context is not None
    except ConfigError as error:
        both = shlex.join([str(serve.tls_certificate), str(serve.tls_key)])
        mend = f"ls -l {both}: both PEM, the key of that certificate"
        return refused(check, error, mend)
    path, key = serve.tls_certificate, serve.tls_key
    mend = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=$(hostname) "
        + shlex.join(["-keyout", str(key), "-out", str(path)])
    )
    assert path is not None
    try:
        left_seconds = _valid_until(context, path) - time.time()
    except ssl.SSLCertVerificationError as error:
        text = f"{path}: {error.verify_message}"
        return problem(check, text, mend, ConfigError.exit_code)
    days = int(left_seconds / DAY_SECONDS)
    if left_seconds < SOON_SECONDS:
        return warning(check, f"{path} ends in {days} days", mend)
    return ok(check, f"{path} is valid for {days} days")


def _valid_until(server: ssl.SSLContext, certificate: Path) -> float:
    """When it ends, in seconds since 1970: what a client that trusts just this certificate reads
    in a handshake without a socket. Raises SSLCertVerificationError where it is out of date."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = trusting.wrap_bio(to_client, to_server)
    waiting = [theirs, ours]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    described = theirs.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(described["notAfter"]))
