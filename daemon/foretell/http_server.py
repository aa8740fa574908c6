"""cheroot, made deaf to clients that are slow.

Its few workers read a request themselves and wait for all of it, so that a handful of clients that never finish theirs
would keep everyone else out. Here a worker takes what has arrived and goes on to another connection until the rest is
there, and what it writes fits into the socket's buffer.
"""

from __future__ import annotations

import io
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from cheroot import wsgi
from cheroot.server import HTTPConnection

from foretell.process import give_way

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

NUM_WORKERS: Final = 4
REQUEST_MAX_BYTES: Final = 8192
"""Of a request's first line and headers; what follows is not read."""

TIMEOUT_S: Final = 2
"""In which a request must be whole, and in which a client must take some of the answer."""

MAX_WAITING: Final = 128
"""Connections whose request is not yet whole. Beyond, those that do not begin with a whole one are closed."""

# Room for a whole answer (a scrape is some 40 KB), so that a worker need not wait for a client that does not read. The
# kernel grants at most net.core.wmem_max.
_SEND_BUFFER_BYTES: Final = 1 << 18
_BACKLOG: Final = 128
# The server looks so often whether it is to stop, so stopping takes as long.
_LOOK_INTERVAL_S: Final = 0.2


class _Received(io.BytesIO):
    """A request as cheroot reads it. It asks its own kind of file for these two as well."""

    bytes_read = 0

    def has_data(self) -> bool:
        return False  # nothing to read before more arrives


class _Connection(HTTPConnection):
    """One request and its answer."""

    def __init__(self, server: HttpServer, sock: socket.socket, makefile: Callable[..., Any]) -> None:
        super().__init__(server, sock, makefile)
        self._received = b""
        self._deadline_s = time.monotonic() + TIMEOUT_S

    def communicate(self) -> bool:
        """Take what has arrived and, if the request is whole, answer it. Returns whether to wait for more.

        cheroot calls this in a worker when the connection is new, and again each time that more has arrived.
        """
        give_way()
        has_ended = self._receive()
        if b"\r\n\r\n" in self._received or len(self._received) > REQUEST_MAX_BYTES:
            self.rfile = _Received(self._received)
            super().communicate()  # type: ignore[no-untyped-call]  # cheroot's stubs name it without types
            return False
        return (
            not has_ended and time.monotonic() < self._deadline_s and self.server.can_add_keepalive_connection
        )

    def _receive(self) -> bool:
        """Take what there is, without waiting; whether nothing more will come."""
        self.socket.setblocking(False)
        try:
            part: bytes = self.socket.recv(REQUEST_MAX_BYTES + 1 - len(self._received))
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_S)
        self._received += part
        return not part


class HttpServer(wsgi.Server):
    """`prepare` binds, or raises OSError; then `serve` answers until another thread calls `stop`.

    bind_error: what the last failed attempt to bind raised.
    """

    ConnectionClass = _Connection
    max_request_header_size = REQUEST_MAX_BYTES
    keep_alive_conn_limit = MAX_WAITING
    expiration_interval = _LOOK_INTERVAL_S

    def __init__(
        self, host: str, port: int, application: Callable[..., Iterable[bytes]], log: FilteringBoundLogger
    ) -> None:
        super().__init__(
            (host, port),
            application,
            numthreads=NUM_WORKERS,
            max=NUM_WORKERS,
            server_name="foretell",
            request_queue_size=_BACKLOG,
            timeout=TIMEOUT_S,
            shutdown_timeout=1,
        )
        self._log = log
        self.bind_error: OSError | None = None

    def bind(self, family: int, type: int, proto: int = 0) -> Any:  # noqa: A002 - cheroot's name
        """Bind one of the addresses that the host has; cheroot tries the next one where this raises OSError."""
        try:
            return super().bind(family, type, proto)
        except OSError as error:
            self.bind_error = error
            raise

    @classmethod
    def prepare_socket(cls, *args: Any, **kwargs: Any) -> socket.socket:
        """The listening socket, whose options the connections inherit."""
        listener: socket.socket = super().prepare_socket(*args, **kwargs)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        # Who connects and says nothing stays with the kernel and takes no descriptor of ours.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, TIMEOUT_S)
        return listener

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002
        """Where cheroot says what went wrong: clients that vanish (of no interest), and faults of our own."""
        self._log.log(level if traceback else logging.DEBUG, "http_failed", reason=msg, exc_info=traceback)
