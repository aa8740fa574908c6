"""Metrics, health and readiness over HTTP, by a few threads of their own that never wait for a client.

`/` says to people what is running; `/metrics` is for Prometheus; `/-/healthy` is 200 while the process answers;
`/-/ready` is 200 while frames are forecast, else 503.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.exposition import choose_encoder

from foretell.endpoints import split_host_and_port
from foretell.errors import EndpointError
from foretell.http_server import HttpServer
from foretell.landing_page import render

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

_TEXT: Final = "text/plain; charset=utf-8"
_HTML: Final = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Status:
    """Whether frames are being forecast, one line that says why or why not, and what is running, for people."""

    is_ready: bool
    reason: str
    facts: Mapping[str, str] = field(default_factory=dict)


class _Answer(NamedTuple):
    status: str
    content_type: str
    body: bytes


class Server:
    """A running server, or none where `endpoint` is empty. Closes as a context manager or by `close`.

    endpoint: where it answers, with the port that was found for port 0.
    """

    def __init__(self, endpoint: str, http: HttpServer | None) -> None:
        self.endpoint = endpoint
        self._http = http
        if http is not None:
            self._thread = threading.Thread(target=http.serve, name="http", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop answering; waits for answers that are being given, some tenths of a second."""
        if self._http is not None:
            self._http.stop()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(
    endpoint: str, registry: CollectorRegistry, status: Callable[[], Status], log: FilteringBoundLogger
) -> Server:
    """Start to answer at `endpoint` (`http://HOST:PORT`, port 0 for any; empty: not at all).

    status is asked by the server's threads at every request that needs it. Raises EndpointError.
    """
    if not endpoint:
        return Server("", None)
    host, port = split_host_and_port(endpoint)
    http = HttpServer(host, port, _Application(registry, status), log)
    try:
        http.prepare()
    except OSError as error:
        reason = http.bind_error.strerror if http.bind_error is not None else str(error)
        raise EndpointError(f"{endpoint}: {(reason or str(error)).lower()}") from error
    return Server(f"http://{f'[{host}]' if ':' in host else host}:{http.bind_addr[1]}", http)


class _Application:
    """The pages, as WSGI."""

    def __init__(self, registry: CollectorRegistry, status: Callable[[], Status]) -> None:
        self._registry = registry
        self._status = status

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        answer = self._answer(method, environ["PATH_INFO"], environ.get("HTTP_ACCEPT", ""))
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        if answer.status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(answer.status, headers)
        return [] if method == "HEAD" else [answer.body]

    def _answer(self, method: str, path: str, accept: str) -> _Answer:
        if method not in {"GET", "HEAD"}:
            return _Answer("405 Method Not Allowed", _TEXT, b"only GET and HEAD are answered\n")
        match path:
            case "/":
                status = self._status()
                return _Answer("200 OK", _HTML, render(status.is_ready, status.reason, status.facts).encode())
            case "/metrics":
                return self._metrics(accept)
            case "/-/healthy":
                return _Answer("200 OK", _TEXT, b"ok\n")
            case "/-/ready":
                status = self._status()
                code = "200 OK" if status.is_ready else "503 Service Unavailable"
                return _Answer(code, _TEXT, f"{status.reason}\n".encode())
            case _:
                return _Answer("404 Not Found", _TEXT, b"see /\n")

    def _metrics(self, accept: str) -> _Answer:
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # what prometheus_client makes of a version that is no number
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return _Answer("200 OK", content_type, encode(self._registry))
