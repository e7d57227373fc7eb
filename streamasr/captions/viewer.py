"""Watches a daemon's microphone over the native protocol, and comes back when it is gone."""

import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from streamasr.captions.terminal import TerminalCaptions
from streamasr.errors import AddressError, ProtocolError

DEFAULT_URL = "ws://127.0.0.1:8765/v1"
FIRST_RETRY_SECONDS = 0.5
SLOWEST_RETRY_SECONDS = 8.0
HELLO_SECONDS = 10.0
MICROPHONE = {
    "lost": "the microphone is gone; waiting for it",
    "recovered": "the microphone is back",
    "none": "the daemon has no microphone of its own",
}


async def watch(url: str = DEFAULT_URL) -> None:
    """Show captions until cancelled. Raises AddressError where the first connection fails;
    later ones are tried again for ever."""
    captions = TerminalCaptions()
    try:
        connection = await _open(url)
        while True:
            await _show_all(connection, captions)
            _note("the daemon is gone; trying again")
            connection = await _open_again(url)
            _note("connected again")
    finally:
        captions.close()


async def _open(url: str) -> ClientConnection:
    """A connection whose hello was read."""
    try:
        connection = await connect(url, compression=None, open_timeout=HELLO_SECONDS)
    except InvalidURI:
        raise AddressError(f"{url!r} is not a websocket address like {DEFAULT_URL}") from None
    except (OSError, InvalidHandshake, TimeoutError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AddressError(
            f"cannot connect to {url}: {reason}; is `streamasr serve` running?"
        ) from None
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            hello = json.loads(await connection.recv())
    except (TimeoutError, ConnectionClosed, ValueError):
        hello = None
    if not isinstance(hello, dict) or hello.get("type") != "hello" or hello.get("protocol") != 1:
        await connection.close()
        raise AddressError(f"{url} does not speak streamasr's protocol 1")
    return connection


async def _open_again(url: str) -> ClientConnection:
    pause_seconds = FIRST_RETRY_SECONDS
    while True:
        await asyncio.sleep(pause_seconds)
        try:
            return await _open(url)
        except AddressError:
            pause_seconds = min(2 * pause_seconds, SLOWEST_RETRY_SECONDS)


async def _show_all(connection: ClientConnection, captions: TerminalCaptions) -> None:
    """Show what comes until the connection ends. Raises ProtocolError where the server
    refuses this viewer."""
    microphone = "ok"
    try:
        async for text in connection:
            message = json.loads(text)
            match message["type"]:
                case "partial":
                    captions.partial(message["text"])
                case "final":
                    captions.final(message["text"])
                case "status" if message["microphone"] != microphone:
                    microphone = message["microphone"]
                    if microphone in MICROPHONE:
                        _note(MICROPHONE[microphone])
                case "error" if message["fatal"]:
                    raise ProtocolError(message["code"], message["message"], fatal=True)
                case "error":
                    _note(message["message"])
    except ConnectionClosed:
        pass
    finally:
        captions.partial("")
        await connection.close()


def _note(text: str) -> None:
    print(f"streamasr: {text}", file=sys.stderr, flush=True)
