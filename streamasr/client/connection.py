"""One connection to a server: opened with a token and TLS, listened to, shut."""

import asyncio
import ssl
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from streamasr.errors import AddressError, ConfigError

DEFAULT_URL = "ws://127.0.0.1:8765/v1"
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
# A status comes every 10 s. A server that says nothing is asked, and then it is gone.
QUIET_SECONDS = 12.0
PONG_SECONDS = 15.0
TOKEN_MEND = "give the daemon's token with --token-file FILE"


class AccessError(AddressError):
    """The server does not let this client in; trying again is no use."""


def token_refused(url: str, token: str | None) -> AccessError:
    """What is wrong with the token that was sent, or not sent."""
    what = "wants a token" if token is None else "does not know this token"
    return AccessError(f"{url} {what}; {TOKEN_MEND}")


def read_token(path: Path) -> str:
    """The token that a file holds on its one line. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read the token file {path}: {reason}") from None
    return checked_token(text.strip(), f"the token file {path}")


def checked_token(token: str, where: str) -> str:
    """The token itself. Raises ConfigError where a header could not carry it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where} must hold one line of letters, digits and signs, no spaces")
    return token


def tls_context(
    url: str, context: ssl.SSLContext | None, ca_file: Path | None
) -> ssl.SSLContext | None:
    """Whom to trust: what ``context`` says, else the certificates in ``ca_file``, else the
    system's; None for ``ws://``. Raises ConfigError."""
    if not url.lower().startswith("wss:"):
        if context is not None or ca_file is not None:
            raise ConfigError(f"certificates are for wss:// addresses, not for {url}")
        return None
    if context is not None:
        return context
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"cannot read the certificates in {ca_file}: {reason}") from None


async def open_connection(
    url: str, token: str | None, tls: ssl.SSLContext | None
) -> ClientConnection:
    """Raises AddressError, AccessError where another attempt would be no use."""
    try:
        return await connect(
            url,
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            ssl=tls,
            compression=None,
            proxy=None,  # of the environment, which is for the web
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # see receive
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            raise token_refused(url, token) from None
        if status == HTTPStatus.FORBIDDEN:
            problem = f"{url} does not let this client in (HTTP 403); {TOKEN_MEND}"
            raise AccessError(problem) from None
        raise _unreachable(url, f"the server answers with HTTP {status}") from None
    except ssl.SSLCertVerificationError as error:
        raise AddressError(
            f"the certificate of {url} is not trusted ({error.verify_message}); "
            "name the one that signed it with --ca-file FILE"
        ) from None
    except InvalidURI:
        raise AddressError(f"{url!r} is not a websocket address like {DEFAULT_URL}") from None
    except (OSError, WebSocketException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _unreachable(url, reason) from None
    except ValueError:  # a port or host name that cannot be one
        raise AddressError(f"{url!r} is not a websocket address like {DEFAULT_URL}") from None


async def receive(connection: ClientConnection) -> str | bytes:
    """The next message. Raises ConnectionClosed, and TimeoutError where the server is gone without
    a word. Pongs alone would not tell: a ping waits behind audio that a busy server reads late."""
    reading = asyncio.ensure_future(connection.recv())
    try:
        while not (await asyncio.wait((reading,), timeout=QUIET_SECONDS))[0]:
            async with asyncio.timeout(PONG_SECONDS):
                pong = asyncio.ensure_future(await connection.ping())
                await asyncio.wait((reading, pong), return_when=asyncio.FIRST_COMPLETED)
        return reading.result()
    finally:
        reading.cancel()


async def shut(connection: ClientConnection) -> None:
    """Close; without a word where the peer does not take it."""
    try:
        async with asyncio.timeout(2 * CLOSE_SECONDS):
            await connection.close()
    except TimeoutError:
        connection.transport.abort()


def _unreachable(url: str, reason: str) -> AddressError:
    how = ", with TLS" if url.lower().startswith("wss:") else ""
    return AddressError(
        f"cannot connect to {url}: {reason}; is `streamasr serve` running there{how}?"
    )
