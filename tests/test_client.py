"""The client: what the first connection says, what is given up, and how it ends."""

import asyncio
import itertools
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamasr.client import Client, Connected, Lost, read_token
from streamasr.client.client import UNACKNOWLEDGED_BYTES, retry_pauses
from streamasr.errors import AddressError, ConfigError, ProtocolError
from streamasr.events import Final
from streamasr.wire.native_reader import Status
from tests.running_daemon import program
from tests.scripted_server import LIMIT_SECONDS, Peer, final, read_until, scripted, texts


async def greet(peer: Peer) -> None:
    await peer.greet()


async def fail_to_connect(url: str, **options) -> str:
    with pytest.raises(AddressError) as caught:
        async with asyncio.timeout(LIMIT_SECONDS), Client(url, **options):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- The first connection. ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ws://127.0.0.1:1/v1", "streamasr serve"),
        ("nonsense", "not a websocket address"),
        ("ws://127.0.0.1:port/v1", "not a websocket address"),
        ("http://127.0.0.1/v1", "not a websocket address"),
    ],
)
async def test_an_address_where_nobody_answers(url: str, says: str) -> None:
    assert says in await fail_to_connect(url)


async def test_servers_of_another_kind() -> None:
    async def welcome(peer: Peer) -> None:
        await peer.say("welcome")

    async def hello_of_tomorrow(peer: Peer) -> None:
        await peer.say("hello", protocol=2, model="m", languages=[], sample_rate=1)

    async def hang_up(peer: Peer) -> None:
        await peer.connection.close()

    for play in (welcome, hello_of_tomorrow, hang_up):
        async with scripted(play) as url:
            assert "does not speak streamasr's protocol 1" in await fail_to_connect(url)


def answer(status: int):
    """Refuses the handshake with a status."""

    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(status, "", Headers({"Content-Length": "0"}), b"")

    return refuse


@pytest.mark.parametrize(
    ("status", "token", "says"),
    [
        (401, None, "wants a token; give the daemon's token with --token-file"),
        (401, "wrong", "does not know this token; give the daemon's token with --token-file"),
        (403, "wrong", "does not let this client in"),
        (404, None, "HTTP 404"),
    ],
)
async def test_a_refused_handshake(status: int, token: str | None, says: str) -> None:
    async with scripted(greet, process_request=answer(status)) as url:
        problem = await fail_to_connect(url, token=token)
    assert says in problem
    assert "wrong" not in problem


async def test_a_server_that_waits_for_a_token() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.error("unauthorized", fatal=True)

    async with scripted(refuse) as url:
        assert "wants a token" in await fail_to_connect(url)


async def test_a_server_that_is_full() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.say("hello", protocol=1, model="m", languages=[], sample_rate=1)
        await peer.error("too_many_connections", fatal=True, close_code=1013)

    async with scripted(refuse) as url:
        assert "this is too_many_connections" in await fail_to_connect(url)


async def test_the_token_travels_in_the_handshake() -> None:
    async def check(peer: Peer) -> None:
        assert peer.connection.request is not None
        assert peer.connection.request.headers["Authorization"] == "Bearer s3cret"
        await peer.greet()

    async with scripted(check) as url, Client(url, token="s3cret") as client:
        assert isinstance(await anext(client), Connected)


def test_token_files(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret-Token_1\n")
    assert read_token(path) == "s3cret-Token_1"
    for content in (b"", b"\n", b"two words\n", b"two\nlines\n", b"\xff\n", "schlüssel".encode()):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=str(path)):
            read_token(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "missing")
    with pytest.raises(ConfigError, match="the token"):
        Client(token="a\r\nHost: elsewhere")


# ---- TLS. -----------------------------------------------------------------------------------


async def test_certificates(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="trustme makes the certificates")
    authority = trustme.CA()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(own)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    trusting = ssl.create_default_context(cafile=ca_file)
    async with scripted(greet, ssl=own) as url:
        for options in ({"ca_file": ca_file}, {"ssl_context": trusting}):
            async with Client(url, **options) as client:
                assert isinstance(await anext(client), Connected)
        problem = await fail_to_connect(url)
        assert "not trusted" in problem
        assert "--ca-file" in problem
    async with scripted(greet) as url:
        assert "with TLS" in await fail_to_connect(url.replace("ws:", "wss:"))


def test_certificate_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="No such file"):
        Client("wss://127.0.0.1/v1", ca_file=path)
    path.write_text("dear diary")
    with pytest.raises(ConfigError, match="no certificate"):
        Client("wss://127.0.0.1/v1", ca_file=path)
    with pytest.raises(ConfigError, match="for wss://"):
        Client("ws://127.0.0.1/v1", ca_file=path)


# ---- What is not worth another connection. --------------------------------------------------


async def test_a_fatal_error_ends_everything() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.event(final("before"))
        await peer.error("message_too_big", fatal=True)

    async with scripted(play) as url, Client(url) as client:
        assert texts(await read_until(client, Final)) == ["before"]
        for call in (client.__anext__, client.finalize):
            with pytest.raises(ProtocolError, match="this is message_too_big") as caught:
                await call()
            assert caught.value.code == "message_too_big"
            assert caught.value.fatal


async def test_a_session_that_another_program_took_is_not_taken_back() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.close(1008, "taken_over")

    async with scripted(play) as url, Client(url) as client:
        with pytest.raises(ProtocolError, match="taken_over"):
            await read_until(client, Lost)


async def test_nonsense_from_the_server_ends_the_iteration() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.connection.send("{")

    async with scripted(play) as url, Client(url) as client:
        with pytest.raises(ProtocolError, match="not JSON"):
            await read_until(client, Lost)


@pytest.mark.parametrize("code", ["too_slow", "idle"])
async def test_some_errors_begin_another_session(code: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            await peer.error(code, fatal=True)

    async with scripted(play) as url, Client(url) as client:
        assert (await read_until(client, Lost))[-1] == Lost(f"this is {code}")
        assert (await read_until(client, Connected))[-1] == Connected("session2", audio_seconds=0.0)


async def test_a_token_that_is_refused_later_is_not_tried_again() -> None:
    async def play(peer: Peer) -> None:
        if peer.visit == 1:
            await peer.greet()
            peer.cut()
        else:
            await peer.error("unauthorized", fatal=True)

    async with scripted(play) as url, Client(url, token="old") as client:
        await read_until(client, Lost)
        with pytest.raises(AddressError, match="does not know this token"):
            await client.send(b"12")
        with pytest.raises(AddressError, match="--token-file"):
            await anext(client)


# ---- Ends and pauses. -----------------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True])
async def test_leaving_leaves_nothing_behind(lost: bool) -> None:
    """Also in the middle of a wait, of the reader's and of the sender's."""

    async def play(peer: Peer) -> None:
        await peer.greet()
        if lost:
            peer.cut()

    before = asyncio.all_tasks()
    reached = asyncio.Event()

    async def use(url: str) -> None:
        async with Client(url, config={}) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(client.send(bytes(2 * UNACKNOWLEDGED_BYTES)))
            async for event in client:
                if isinstance(event, Lost if lost else Status):
                    reached.set()

    async with scripted(play) as url:
        using = asyncio.create_task(use(url))
        await reached.wait()
        using.cancel()
        await asyncio.wait((using,))
        assert using.cancelled()
    assert asyncio.all_tasks() == before


async def test_a_client_is_used_inside_async_with() -> None:
    client = Client()
    with pytest.raises(RuntimeError, match="async with"):
        await anext(client)
    with pytest.raises(RuntimeError, match="async with"):
        await client.send(b"12")


def test_pauses_double_up_to_a_limit() -> None:
    pauses = list(itertools.islice(retry_pauses(), 9))
    middles = [0.5, 1, 2, 4, 8, 8, 8, 8, 8]
    assert all(0.75 * m <= p <= 1.25 * m for p, m in zip(pauses, middles, strict=True))
    assert len(set(pauses[4:])) == 5


async def test_a_recording_is_sent_to_the_real_program(demo_pcm: bytes) -> None:
    async with (
        program("--input", "none") as daemon,
        Client(daemon.url, config={"sample_rate": 16_000}) as client,
    ):
        await client.send(demo_pcm)
        await client.close()
        events = [event async for event in client]
    heard = [event for event in events if isinstance(event, Final)]
    assert heard
    assert all(event.words for event in heard)
    assert not any(isinstance(event, Lost) for event in events)
