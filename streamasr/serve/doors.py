"""The addresses that the daemon listens on, and the rules at each, before any model is loaded."""

import errno
import socket
import ssl
from dataclasses import dataclass, field

from streamasr.config import ServeConfig
from streamasr.errors import AddressError
from streamasr.serve.access import Access, Network, allowed_networks, tls_context

SOCKET_BUFFER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Doors:
    """Sockets that are bound and do not listen yet; None where a port is not wanted."""

    main: socket.socket
    vosk: socket.socket | None = None
    wyoming: socket.socket | None = None
    access: Access = field(default_factory=Access)
    tls: ssl.SSLContext | None = None
    wyoming_networks: tuple[Network, ...] = ()

    def close(self) -> None:
        """Give the addresses back."""
        for listener in (self.main, self.vosk, self.wyoming):
            if listener is not None:
                listener.close()


def open_doors(config: ServeConfig) -> Doors:
    """Take the addresses without listening yet, so that a daemon that cannot have them says so
    before it loads a model.

    Raises AddressError, and ConfigError for what would let strangers in.
    """
    access, tls, networks = Access.of(config), tls_context(config), allowed_networks(config)
    listeners: list[socket.socket | None] = []
    try:
        for host, port, flag in (
            (config.host, config.port, "--port"),
            (config.host, config.vosk_port, "--vosk-port"),
            (config.wyoming_host, config.wyoming_port, "--wyoming-port"),
        ):
            listeners.append(None if port is None else bind(host, port, flag))
    except AddressError:
        for listener in listeners:
            if listener is not None:
                listener.close()
        raise
    main, vosk, wyoming = listeners
    assert main is not None
    return Doors(main, vosk, wyoming, access, tls, networks)


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Take one address. Raises AddressError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise AddressError(
            f"no address {host!r}: {error.strerror}; use {_host_flag(flag)} 127.0.0.1"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Every connection inherits these. The kernel would keep megabytes otherwise: of old partials
    # for a viewer that does not read, and of audio of a speaker that sends faster than we hear.
    for direction in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listener.setsockopt(socket.SOL_SOCKET, direction, SOCKET_BUFFER_BYTES)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise address_taken(host, port, flag, error) from None
    return listener


def address_taken(host: str, port: int, flag: str, error: OSError) -> AddressError:
    """The error that names the port and the mend."""
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressError(
            f"{host} is no address of this machine; choose one with {_host_flag(flag)}: 127.0.0.1, "
            "or 0.0.0.0 for all"
        )
    return AddressError(
        f"cannot listen on {host} port {port}: {error.strerror}; "
        f"choose another with {flag}, or {flag} 0 for any free one"
    )


def _host_flag(port_flag: str) -> str:
    return "--wyoming-host" if port_flag == "--wyoming-port" else "--host"
