"""The servers: speakers in, viewers out, a page of captions, health and metrics.

``/v1`` speaks the native protocol and ``/vosk`` Vosk's; so does every path of Vosk's own
port. ``/`` is the captions page, ``/healthz`` says that the daemon lives, ``/metrics`` how. A
third port speaks Wyoming. The server holds no audio and computes nothing: peers put bytes
into the engine, and the engine's events come back to them.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from streamasr.config import ServeConfig
from streamasr.engine import Engine
from streamasr.errors import ProtocolError
from streamasr.events import Event
from streamasr.serve.access import RequestHeaders, is_allowed
from streamasr.serve.authenticate import has_native_token, vosk_config_with_token
from streamasr.serve.doors import Doors, address_taken
from streamasr.serve.half_open import HalfOpen
from streamasr.serve.native import NativePeer
from streamasr.serve.page import page_and_policy
from streamasr.serve.peer import (
    Ending,
    MicrophoneStatus,
    Peer,
    SetMuted,
    ending_for,
    log_defect,
)
from streamasr.serve.session import Session
from streamasr.serve.sessions import Sessions
from streamasr.serve.status import METRICS_TYPE, Metrics
from streamasr.serve.vosk import VoskPeer
from streamasr.serve.wyoming import READ_BYTES, WyomingPeer

CLOSE_TIMEOUT_SECONDS = 1.0
HANDSHAKE_SECONDS = 5.0
# A speaker that sends faster than it is heard answers a ping behind all that it has sent.
PING_TIMEOUT_SECONDS = 60.0
# In a flood the kernel would otherwise drop honest clients' packets, who try again a second later.
LISTEN_BACKLOG = 1024
ABORT_SECONDS = 0.1

ServeWebsocket = Callable[[ServerConnection], Awaitable[None]]
Answer = Callable[[ServerConnection, Request], Response | None]


class Server:
    """Accepts connections and fans events out. All methods belong to one event loop."""

    def __init__(
        self,
        engine: Engine,
        config: ServeConfig,
        metrics: Metrics,
        microphone: Callable[[], MicrophoneStatus] = MicrophoneStatus,
        set_muted: SetMuted | None = None,
    ) -> None:
        """``set_muted`` is None where ``microphone`` is none that could be closed."""
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._microphone = microphone
        self._peers: dict[Peer, str] = {}
        self._is_draining = False
        self._sessions = Sessions(
            lambda: Session(engine, config, microphone, set_muted),
            resume_seconds=config.resume_seconds,
            max_parked=config.max_connections,
        )
        self._half_open = HalfOpen(config.max_half_open)
        self._websocket_servers: list[WebsocketServer] = []
        self._wyoming_server: asyncio.Server | None = None
        self._wyoming_tasks: set[asyncio.Task[None]] = set()
        self._heartbeat: asyncio.Task[None] | None = None
        self._page, self._page_policy = page_and_policy()
        metrics.watch_microphone(microphone)
        metrics.watch_connections(self._count, self._sessions.replaced_partials)

    async def start(self, doors: Doors) -> None:
        """Accept connections. Raises AddressError."""
        self._doors = doors
        config = self._config
        try:
            flag, host, port = "--port", config.host, config.port
            await self._listen(doors.main, self._serve_path, self._answer)
            if doors.vosk is not None:
                flag, port = "--vosk-port", config.vosk_port or 0
                await self._listen(doors.vosk, self._serve_vosk, self._answer_vosk)
            if doors.wyoming is not None:
                flag, port = "--wyoming-port", config.wyoming_port or 0
                host = config.wyoming_host
                self._wyoming_server = await asyncio.start_server(
                    self._accept_wyoming, sock=doors.wyoming, backlog=LISTEN_BACKLOG
                )
        except OSError as error:  # two daemons may both have bound; only one can listen
            doors.close()
            raise address_taken(host, port, flag, error) from None
        self._heartbeat = asyncio.create_task(self._beat())

    async def _listen(
        self, listener: socket.socket, handler: ServeWebsocket, answer: Answer
    ) -> None:
        tls = {} if self._doors.tls is None else {"ssl_handshake_timeout": HANDSHAKE_SECONDS}
        server = await serve(
            handler,
            sock=listener,
            backlog=LISTEN_BACKLOG,
            ssl=self._doors.tls,
            compression=None,
            process_request=answer,
            create_connection=self._half_open.websocket,  # type: ignore[arg-type]
            open_timeout=HANDSHAKE_SECONDS,
            ping_timeout=PING_TIMEOUT_SECONDS,
            # Twice the limit still gets a coded error and its last final; what is
            # larger is cut off with close code 1009 before it fills the memory.
            max_size=2 * self._config.max_message_bytes,
            max_queue=4,
            close_timeout=CLOSE_TIMEOUT_SECONDS,
            logger=_quiet_logger(),
            **tls,  # type: ignore[arg-type]
        )
        self._websocket_servers.append(server)

    def publish(self, events: list[Event]) -> None:
        """Show events of the daemon's microphone to every viewer."""
        for session in self._sessions:
            if session.role == "viewer" and not session.ending.done():
                session.show(events)

    def publish_status(self, *, changed: bool = True) -> None:
        """Tell everybody how the microphone is."""
        for session in self._sessions.held:
            session.show_status(changed=changed)

    async def drain(self, patience_seconds: float) -> None:
        """Accept nobody new, send every pending final, close everything.

        Audio that is not recognised within ``patience_seconds`` is thrown away, so that
        the final of what was recognised still goes out; peers that do not read that within
        ``patience_seconds`` more are dropped.
        """
        self._is_draining = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        for server in self._websocket_servers:
            server.close(close_connections=False)
        if self._wyoming_server is not None:
            self._wyoming_server.close()
        self._half_open.drop_all()
        self._sessions.give_up_parked()
        for peer in self._peers:
            peer.end(Ending(CloseCode.GOING_AWAY))
        closed = asyncio.create_task(self._wait_closed())
        await asyncio.wait((closed,), timeout=patience_seconds)
        for peer in self._peers:
            peer.discard_backlog()
        await asyncio.wait((closed,), timeout=patience_seconds)
        for peer in self._peers:
            peer.abort()
        await asyncio.wait((closed,), timeout=ABORT_SECONDS)

    async def _wait_closed(self) -> None:
        for server in self._websocket_servers:
            await server.wait_closed()
        if self._wyoming_tasks:
            await asyncio.wait(self._wyoming_tasks)

    async def _serve_path(self, connection: ServerConnection) -> None:
        if _headers(connection.request).path == "/vosk":
            await self._serve_vosk(connection)
        else:
            await self._serve_native(connection)

    async def _serve_native(self, connection: ServerConnection) -> None:
        if self._needs_token(connection) and not await has_native_token(
            connection, self._doors.access
        ):
            self._metrics.errors.labels("unauthorized").inc()
            return
        peer = NativePeer(connection, self._sessions, self._config)
        await self._run(peer, "native", connection.transport)

    async def _serve_vosk(self, connection: ServerConnection) -> None:
        first = None
        if self._needs_token(connection):
            first = await vosk_config_with_token(connection, self._doors.access)
            if first is None:
                self._metrics.errors.labels("unauthorized").inc()
                return
        peer = VoskPeer(connection, self._engine, self._config, first)
        await self._run(peer, "vosk", connection.transport)

    def _accept_wyoming(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")[0]
        if not is_allowed(address, self._doors.wyoming_networks):
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve_wyoming(reader, writer))
        self._wyoming_tasks.add(task)
        task.add_done_callback(self._wyoming_tasks.discard)

    async def _serve_wyoming(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._half_open.add(writer.transport)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                first = await reader.read(READ_BYTES)
            peer = WyomingPeer(first, reader, writer, self._engine, self._config)
            await self._run(peer, "wyoming", writer.transport)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._half_open.remove(writer.transport)
            writer.close()

    async def _run(self, peer: Peer, protocol: str, transport: asyncio.BaseTransport) -> None:
        """Serve one peer to its end, or tell it that there are too many; then it is half open
        still, so that those who are refused are few, too."""
        limit = self._config.max_connections
        if self._is_draining:
            peer.end(Ending(CloseCode.GOING_AWAY))
        elif len(self._peers) >= limit:
            message = f"{limit} are connected already; try again later"
            error = ProtocolError("too_many_connections", message, fatal=True)
            peer.end(ending_for(error))
        else:
            self._half_open.remove(transport)
            self._peers[peer] = protocol
        try:
            ending = await peer.run()
            if ending is not None and ending.error is not None:
                self._metrics.errors.labels(ending.error.code).inc()
        except Exception as error:
            log_defect(error)
        finally:
            self._peers.pop(peer, None)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._config.status_interval_seconds)
            self.publish_status(changed=False)

    def _needs_token(self, connection: ServerConnection) -> bool:
        authorization = _headers(connection.request).authorization
        return not self._doors.access.is_authorized(authorization)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, or None to go on to the websocket handshake."""
        headers = _headers(request)
        refused = self._refuse(connection, headers)
        if refused is not None or headers.path in ("/v1", "/vosk"):
            return refused
        if headers.path == "/":
            response = _respond(connection, self._page, "text/html; charset=utf-8")
            response.headers["Content-Security-Policy"] = self._page_policy
            return response
        if headers.path == "/healthz":
            return _respond(connection, self._health(), "application/json")
        if headers.path == "/metrics":
            return _respond(connection, self._metrics.text(), METRICS_TYPE)
        return connection.respond(
            HTTPStatus.NOT_FOUND, "nothing here; try /v1, /vosk, /, /healthz or /metrics\n"
        )

    def _answer_vosk(self, connection: ServerConnection, request: Request) -> Response | None:
        """On Vosk's own port every path is a websocket."""
        return self._refuse(connection, _headers(request, path="/vosk"))

    def _refuse(self, connection: ServerConnection, headers: RequestHeaders) -> Response | None:
        refusal = self._doors.access.refusal(headers)
        if refusal is None:
            return None
        response = connection.respond(refusal.status, f"{refusal.reason}\n")
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _count(self, protocol: str, role: str) -> int:
        return sum(spoken == protocol and peer.role == role for peer, spoken in self._peers.items())

    def speakers_and_viewers(self) -> tuple[int, int]:
        """How many are connected, of all protocols."""
        viewers = sum(peer.role == "viewer" for peer in self._peers)
        return len(self._peers) - viewers, viewers

    def _health(self) -> str:
        speakers, viewers = self.speakers_and_viewers()
        return json.dumps(
            {
                "status": "ok",
                "model": self._engine.recognizer.model_name,
                "microphone": self._microphone().state,
                "viewers": viewers,
                "speakers": speakers,
            }
        )


def _headers(request: Request | None, path: str | None = None) -> RequestHeaders:
    """What decides about a request; ``path`` stands in for its own."""
    assert request is not None
    read = partial(_joined, request)
    path = path or request.path.partition("?")[0]
    return RequestHeaders(
        path,
        is_websocket=path in ("/v1", "/vosk"),
        origin=read("Origin"),
        host=read("Host"),
        authorization=read("Authorization"),
        user_agent=read("User-Agent"),
        fetch_site=read("Sec-Fetch-Site"),
        fetch_dest=read("Sec-Fetch-Dest"),
    )


def _quiet_logger() -> logging.Logger:
    """For the websockets library, without its traceback for every peer that connects and
    does not speak HTTP, and never with headers or messages, which have tokens in them; failures
    of our own code still come through."""
    logger = logging.getLogger("streamasr.serve.websockets")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_is_not_the_peers_fault)
    return logger


def _is_not_the_peers_fault(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("opening handshake failed")


def _joined(request: Request, name: str) -> str | None:
    """A header's value; where it was sent twice both, which matches nothing."""
    return ", ".join(request.headers.get_all(name)) or None


def _respond(connection: ServerConnection, body: str, content_type: str) -> Response:
    response = connection.respond(HTTPStatus.OK, body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = content_type
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
