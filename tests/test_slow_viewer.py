"""One viewer that does not keep up: it loses partials, no finals, and in the end its place."""

import json
import socket

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.config import ServeConfig
from streamasr.events import Final, Partial
from tests.test_server import Running, receive, running

LIMIT = 64
TEXT = "word " * 400


def utterance(number: int, partials: int) -> list[Partial | Final]:
    """So many partials and the final after them."""
    growing = [Partial(number, f"{TEXT}{place}", "", 0.0, 1.0, ()) for place in range(partials)]
    return [*growing, Final(number, TEXT, 0.0, 1.0, (), 0.9, (), "silence")]


async def slow_client(daemon: Running) -> ClientConnection:
    """Reads when it is asked to; little fits into its socket."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", daemon.port))
    client = await connect(daemon.url, sock=narrow, compression=None, max_queue=1)
    assert (await receive(client))["type"] == "hello"
    return client


async def publish(daemon: Running, reader: ClientConnection, numbers: range) -> int:
    """Say utterances, each when a quick viewer has seen all of the one before; the number of
    partials that it saw."""
    seen = 0
    for number in numbers:
        for event in utterance(number, partials=10):
            daemon.server.publish([event])
            while True:
                message = await receive(reader)
                seen += message["type"] == "partial"
                if message["type"] in ("partial", "final"):
                    break
    return seen


def numbers_of(messages: list[dict], message_type: str) -> list[int]:
    return [message["utterance"] for message in messages if message["type"] == message_type]


async def test_a_viewer_that_pauses_loses_partials_and_no_finals(recognizer) -> None:
    config = ServeConfig(port=0, viewer_queue_finals=LIMIT)
    async with running(recognizer, config) as daemon, connect(daemon.url) as reader:
        await receive(reader)
        slow = await slow_client(daemon)
        said = 10 * (LIMIT - 8)
        assert await publish(daemon, reader, range(LIMIT - 8)) == said
        messages = []
        while (
            not messages
            or messages[-1].get("utterance", 0) < LIMIT - 9
            or (messages[-1]["type"] != "final")
        ):
            messages.append(await receive(slow))
        assert numbers_of(messages, "final") == list(range(LIMIT - 8))
        assert len(numbers_of(messages, "partial")) < said / 2
        await slow.close()


async def test_a_viewer_that_is_too_late_is_told_so(recognizer) -> None:
    config = ServeConfig(port=0, viewer_queue_finals=LIMIT)
    async with running(recognizer, config) as daemon, connect(daemon.url) as reader:
        await receive(reader)
        slow = await slow_client(daemon)
        await publish(daemon, reader, range(2 * LIMIT))
        messages = []
        try:
            while True:
                messages.append(json.loads(await slow.recv()))
        except ConnectionClosed:
            pass
        finals = numbers_of(messages, "final")
        assert finals == list(range(len(finals)))
        assert 0 < len(finals) < 2 * LIMIT
        assert (messages[-1]["type"], messages[-1]["code"]) == ("error", "too_slow")
        assert (slow.close_code, slow.close_reason) == (1008, "too_slow")
