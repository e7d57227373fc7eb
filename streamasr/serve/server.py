"""The websocket server: speakers in, viewers out, and a page of captions.

``/v1`` speaks the native protocol, ``/`` is the captions page, ``/healthz`` says that the
daemon lives. The server holds no audio and computes nothing: sessions put bytes into the
engine, and the engine's events come back into sessions.
"""

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from streamasr.config import EndpointConfig, ServeConfig
from streamasr.engine import Engine
from streamasr.errors import AddressError, ConfigError, ProtocolError
from streamasr.events import Event
from streamasr.serve.access import refuse_reason
from streamasr.serve.session import MicrophoneStatus, Session

CAPTIONS_PAGE = Path(__file__).with_name("captions.html")
# blob: is the page's own audio worklet, data: its empty icon. Styles may be inline because OBS
# puts its user's own into the page as an element.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "worker-src 'none'; img-src data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CLOSE_TIMEOUT_SECONDS = 1.0


def bind(host: str, port: int) -> socket.socket:
    """Take the address without listening yet, so that a daemon that cannot have it says so
    before it loads a model.

    Raises AddressError, and ConfigError for an address that other machines can reach:
    whoever connects hears the microphone, and nothing asks yet who that is.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise AddressError(f"no address {host!r}: {error.strerror}; use 127.0.0.1") from None
    if not ipaddress.ip_address(address[0]).is_loopback:
        raise ConfigError(
            f"serve.host {host} is not this machine alone, and clients are not authenticated"
            " yet: use 127.0.0.1, and an ssh tunnel from elsewhere"
        )
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _address_taken(host, port, error) from None
    return listener


def _address_taken(host: str, port: int, error: OSError) -> AddressError:
    return AddressError(
        f"cannot listen on {host} port {port}: {error.strerror}; "
        "choose another with --port, or --port 0 for any free one"
    )


class Server:
    """Accepts connections and fans events out. All methods belong to one event loop."""

    def __init__(
        self,
        engine: Engine,
        config: ServeConfig,
        endpoint: EndpointConfig,
        microphone: Callable[[], MicrophoneStatus] = MicrophoneStatus,
    ) -> None:
        self._engine = engine
        self._config = config
        self._endpoint = endpoint
        self._microphone = microphone
        self._sessions: set[Session] = set()
        self._server: WebsocketServer | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._page = CAPTIONS_PAGE.read_text(encoding="utf-8")

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on what ``bind`` returned. Raises AddressError."""
        try:
            self._server = await serve(
                self._serve,
                sock=listener,
                compression=None,
                process_request=self._answer_request,
                # Twice the limit still gets a coded error and its last final; what is
                # larger is cut off with close code 1009 before it fills the memory.
                max_size=2 * self._config.max_message_bytes,
                max_queue=4,
                close_timeout=CLOSE_TIMEOUT_SECONDS,
                logger=_quiet_logger(),
            )
        except OSError as error:  # two daemons may both have bound; only one can listen
            listener.close()
            raise _address_taken(self._config.host, self._config.port, error) from None
        self._heartbeat = asyncio.create_task(self._beat())

    def publish(self, events: list[Event]) -> None:
        """Show events of the daemon's microphone to every viewer."""
        for session in self._sessions:
            if session.is_viewer:
                session.show(events)

    def publish_status(self) -> None:
        """Tell everybody how the microphone is."""
        for session in self._sessions:
            session.show_status()

    async def drain(self, patience_seconds: float) -> None:
        """Accept nobody new, send every pending final, close everything.

        Audio that is not recognised within ``patience_seconds`` is thrown away, so that
        the final of what was recognised still goes out; peers that do not read that within
        ``patience_seconds`` more are dropped.
        """
        assert self._server is not None
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._server.close(close_connections=False)
        for session in self._sessions:
            session.end(CloseCode.GOING_AWAY)
        closed = asyncio.create_task(self._server.wait_closed())
        await asyncio.wait((closed,), timeout=patience_seconds)
        for session in self._sessions:
            session.discard_backlog()
        await asyncio.wait((closed,), timeout=patience_seconds)
        for session in self._sessions:
            session.abort()
        await closed

    async def _serve(self, connection: ServerConnection) -> None:
        refusal = None
        if len(self._sessions) >= self._config.max_connections:
            refusal = ProtocolError(
                "too_many_connections",
                f"{self._config.max_connections} are connected already; try again later",
                fatal=True,
            )
        session = Session(connection, self._engine, self._config, self._endpoint, self._microphone)
        if refusal is None:
            self._sessions.add(session)
        try:
            await session.run(refusal)
        finally:
            self._sessions.discard(session)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._config.status_interval_seconds)
            self.publish_status()

    def _answer_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, or None to go on to the websocket handshake."""
        reason = refuse_reason(
            _joined(request, "Origin"),
            _joined(request, "Host"),
            own_host=self._config.host,
            allowed_origins=self._config.allowed_origins,
        )
        if reason is not None:
            return connection.respond(HTTPStatus.FORBIDDEN, f"{reason}\n")
        path = request.path.partition("?")[0]
        if path == "/v1":
            return None
        if path == "/":
            response = _respond(connection, self._page, "text/html; charset=utf-8")
            response.headers["Content-Security-Policy"] = PAGE_POLICY
            return response
        if path == "/healthz":
            return _respond(connection, self._health(), "application/json")
        return connection.respond(HTTPStatus.NOT_FOUND, "nothing here; try /v1, / or /healthz\n")

    def _health(self) -> str:
        viewers = sum(session.is_viewer for session in self._sessions)
        return json.dumps(
            {
                "status": "ok",
                "model": self._engine.recognizer.model_name,
                "microphone": self._microphone().state,
                "viewers": viewers,
                "speakers": len(self._sessions) - viewers,
            }
        )


def _quiet_logger() -> logging.Logger:
    """For the websockets library, without its traceback for every peer that connects and
    does not speak HTTP; failures of our own code still come through."""
    logger = logging.getLogger("streamasr.serve.websockets")
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
    return response
