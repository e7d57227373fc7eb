"""The token in the first message, for clients that cannot send a header, as pages cannot."""

import asyncio
import secrets

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from streamasr.errors import ProtocolError
from streamasr.serve.access import Access
from streamasr.wire import native, vosk

FIRST_MESSAGE_SECONDS = 5.0


async def has_native_token(connection: ServerConnection, access: Access) -> bool:
    """Whether the first message brings the token; if not, the connection is closed."""
    message = await _first_message(connection)
    token = None
    try:
        command = native.parse_message(message) if isinstance(message, str) else None
        if isinstance(command, native.Authenticate):
            token = command.token
    except ProtocolError:
        pass
    if token is not None and access.is_token(token):
        return True
    form = 'first message {"type": "authenticate", "token": …}'
    error = _unauthorized(token, form)
    await _refuse(connection, native.Encoder(secrets.token_hex(8)).encode_error(error), error)
    return False


async def vosk_config_with_token(connection: ServerConnection, access: Access) -> str | None:
    """The first message, if it is a config with the token; if not, None, and the connection is
    closed."""
    message = await _first_message(connection)
    token = None
    if isinstance(message, str):
        try:
            command = vosk.parse_message(message)
            token = command.token if isinstance(command, vosk.Config) else None
        except ProtocolError:
            pass
        if token is not None and access.is_token(token):
            return message
    error = _unauthorized(token, 'first message {"config": {"token": …}}')
    await _refuse(connection, vosk.Replies(words=False, max_alternatives=0).refuse(error), error)
    return None


async def _first_message(connection: ServerConnection) -> str | bytes | None:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            return await connection.recv()
    except (TimeoutError, ConnectionClosed):
        return None


def _unauthorized(token: str | None, form: str) -> ProtocolError:
    problem = "no token was sent" if token is None else "the token is wrong"
    mend = f"send it as the header Authorization: Bearer, or in a {form}"
    return ProtocolError("unauthorized", f"{problem}: {mend}", fatal=True)


async def _refuse(connection: ServerConnection, text: str, error: ProtocolError) -> None:
    try:
        await connection.send(text)
    except ConnectionClosed:
        return
    await connection.close(CloseCode.POLICY_VIOLATION, error.code)
