"""Metrics, health and readiness over HTTP, whatever clients do."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fakes import wait_until
from foretell.config import LogConfig
from foretell.errors import EndpointError
from foretell.http_server import MAX_WAITING, NUM_WORKERS, REQUEST_MAX_BYTES, TIMEOUT_S
from foretell.log import open_log
from foretell.serve import Server, Status, serve
from observing import Observed

ANY_PORT = "http://127.0.0.1:0"
READY = Status(is_ready=True, reason="ready")


def silent_log() -> Any:
    """A log that nobody reads."""
    return open_log(LogConfig(), io.StringIO(), {})


def start(status: Callable[[], Status] = lambda: READY, endpoint: str = ANY_PORT) -> Server:
    """A server of no metrics."""
    return serve(endpoint, CollectorRegistry(), status, silent_log())


@pytest.fixture(scope="module")
def observed() -> Observed:
    """An observer of a daemon that is ready."""
    observed = Observed()
    observed.load_model()
    observed.observer.ready(["tcp://127.0.0.1:5555"], "tcp://127.0.0.1:5556")
    return observed


@pytest.fixture(scope="module")
def server(observed: Observed) -> Iterator[Server]:
    """Its server."""
    with serve(ANY_PORT, observed.observer.registry, observed.observer.status, silent_log()) as server:
        yield server


class Answer:
    """Status, headers and body of one request."""

    def __init__(self, server: Server, path: str, method: str = "GET", **headers: str) -> None:
        address = urlsplit(server.endpoint)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            self.status, self.headers, self.body = response.status, response.headers, response.read().decode()
        finally:
            connection.close()


def connect(server: Server) -> socket.socket:
    """A connection on which nothing has been said."""
    address = urlsplit(server.endpoint)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10)


# -- pages


def test_metrics_are_text_for_prometheus(server: Server) -> None:
    """Without a wish, /metrics is Prometheus's text format."""
    answer = Answer(server, "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in parse_text(answer.body)}
    assert {"foretell_frames_received", "foretell_frame_latency_seconds", "process_cpu_seconds"} <= names


def test_metrics_are_openmetrics_for_who_asks(server: Server) -> None:
    """With OpenMetrics in `Accept`, as Prometheus sends it, /metrics is that."""
    wish = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    answer = Answer(server, "/metrics", Accept=wish)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in parse_openmetrics(answer.body)}  # type: ignore[no-untyped-call]
    assert families["foretell_build"] == "info"
    assert families["foretell_frame_age_seconds"] == "histogram"


def test_a_wish_that_makes_no_sense_gets_text(server: Server) -> None:
    """A version that is no number is no reason to fail."""
    answer = Answer(server, "/metrics", Accept="application/openmetrics-text;version=new")
    assert (answer.status, answer.headers["Content-Type"][:10]) == (200, "text/plain")


def test_the_landing_page_says_what_is_running_and_links_on(server: Server) -> None:
    """Model, input, output, streams, and links to every other page; nothing is fetched from elsewhere."""
    answer = Answer(server, "/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for said in ("builtin", "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556", "0 of at most 16", "ready"):
        assert said in answer.body
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in answer.body
        assert Answer(server, path).status == 200
    assert "http" not in answer.body
    assert "prefers-color-scheme: dark" in answer.body


def test_what_the_landing_page_says_is_escaped() -> None:
    """A path or a name with markup in it is shown and not obeyed."""
    status = Status(is_ready=False, reason="<b>", facts={"model": "<script>alert(1)</script>"})
    with start(lambda: status) as server:
        body = Answer(server, "/").body
    assert "<script>" not in body
    assert "<b>" not in body
    assert "&lt;script&gt;" in body


def test_health_is_that_the_process_answers(server: Server) -> None:
    """/-/healthy is 200 and `ok`."""
    answer = Answer(server, "/-/healthy")
    assert (answer.status, answer.body) == (200, "ok\n")


@pytest.mark.parametrize(("is_ready", "status"), [(True, 200), (False, 503)])
def test_readiness_is_asked_at_every_request(is_ready: bool, status: int) -> None:  # noqa: FBT001
    """/-/ready is 200 or 503 with the reason in one line; the process is healthy either way."""
    with start(lambda: Status(is_ready=is_ready, reason="because")) as server:
        answer = Answer(server, "/-/ready")
        assert (answer.status, answer.body) == (status, "because\n")
        assert Answer(server, "/-/healthy").status == 200


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/-", "/%00", "/../etc/passwd"])
def test_what_is_not_there_is_not_found(server: Server, path: str) -> None:
    """Any other path is 404."""
    assert Answer(server, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "FROB"])
@pytest.mark.parametrize("path", ["/metrics", "/-/ready"])
def test_only_reading_is_allowed(server: Server, method: str, path: str) -> None:
    """Any method but GET and HEAD is 405, with a hint."""
    answer = Answer(server, path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    """HEAD has status and type of GET, says a length, and sends no body."""
    head, get = Answer(server, path, "HEAD"), Answer(server, path)
    assert (head.status, head.headers["Content-Type"]) == (get.status, get.headers["Content-Type"])
    assert int(head.headers["Content-Length"]) > 0
    assert head.body == ""


# -- addresses


def test_no_endpoint_is_no_server() -> None:
    """An empty endpoint serves nothing and closes like any other."""
    with start(endpoint="") as server:
        assert server.endpoint == ""


def test_ipv6_is_served() -> None:
    """An address in brackets is served as any other."""
    with start(endpoint="http://[::1]:0") as server:
        assert server.endpoint.startswith("http://[::1]:")
        assert Answer(server, "/-/healthy").status == 200


def test_an_address_in_use_is_an_endpoint_error(server: Server) -> None:
    """The error names the endpoint and the reason in one line."""
    with pytest.raises(EndpointError, match=f"^{server.endpoint}: address already in use$"):
        start(endpoint=server.endpoint)


def test_a_host_that_is_not_here_is_an_endpoint_error() -> None:
    """An address of another machine cannot be served (192.0.2.0/24 is nobody's: RFC 5737)."""
    with pytest.raises(EndpointError, match=r"^http://192\.0\.2\.1:0: cannot assign requested address$"):
        start(endpoint="http://192.0.2.1:0")


def test_a_closed_server_answers_no_more() -> None:
    """After `close` nobody listens, and it takes less than a second."""
    server = start()
    began_s = time.monotonic()
    server.close()
    assert time.monotonic() - began_s < 1
    with pytest.raises(ConnectionRefusedError):
        connect(server)


# -- clients that are slow, or worse


@pytest.mark.parametrize("said", [b"", b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"])
def test_clients_that_never_finish_hold_up_nobody(server: Server, said: bytes) -> None:
    """With 50 half-open connections, many times the workers there are, a scrape is answered at once."""
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(server)).sendall(said)
        began_s = time.monotonic()
        for _ in range(2 * NUM_WORKERS):
            assert Answer(server, "/metrics").status == 200
        assert time.monotonic() - began_s < TIMEOUT_S


def test_clients_that_do_not_read_hold_up_nobody() -> None:
    """Clients that ask for a long answer and take none of it occupy no worker: the socket's buffer holds all of it."""
    long = Status(is_ready=True, reason="ready", facts={"model": "m" * 150_000})
    with start(lambda: long) as server, ExitStack() as stack:
        for _ in range(5 * NUM_WORKERS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.connect(connect_address(server))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        began_s = time.monotonic()
        assert Answer(server, "/-/healthy").status == 200
        assert time.monotonic() - began_s < TIMEOUT_S


def test_an_answer_fits_into_the_socket(server: Server) -> None:
    """The listener's buffer, which connections inherit, is set: the kernel's own choice would be 16 KiB."""
    assert server._http is not None
    num_bytes = server._http.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert num_bytes > 4 * len(Answer(server, "/metrics").body)


def connect_address(server: Server) -> tuple[str, int]:
    """Host and port."""
    address = urlsplit(server.endpoint)
    return str(address.hostname), int(address.port or 0)


def test_a_request_in_pieces_is_answered(server: Server) -> None:
    """A slow client that does finish within the time gets its answer."""
    with connect(server) as client:
        for piece in (b"GE", b"T /-/healthy HTTP/1.1\r\n", b"Host: a\r\n", b"\r", b"\n"):
            client.sendall(piece)
            time.sleep(0.02)  # so that the pieces arrive apart; where they do not, the test is only easier
        assert client.makefile("rb").read().endswith(b"ok\n")


def test_a_client_that_drips_is_cut_off(server: Server) -> None:
    """A byte now and then does not keep a connection open beyond the time that a request may take."""
    with connect(server) as client:
        began_s = time.monotonic()
        is_cut_off = False
        while not is_cut_off:
            assert time.monotonic() - began_s < 5 * TIMEOUT_S
            try:
                client.sendall(b"G")
                client.settimeout(0.1)
                is_cut_off = client.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                is_cut_off = True
        assert time.monotonic() - began_s > TIMEOUT_S / 2


def test_connections_that_wait_are_limited() -> None:
    """Beyond so many half-open connections the next ones are closed, and whole requests are answered still."""
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(MAX_WAITING + 20)]
        for client in clients:
            client.sendall(b"GET ")
            client.setblocking(False)
        wait_until(lambda: any(is_closed(client) for client in clients), TIMEOUT_S / 2)
        assert Answer(server, "/-/healthy").status == 200


def is_closed(client: socket.socket) -> bool:
    """Whether the other end has closed."""
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"a" * REQUEST_MAX_BYTES, b"GET / HTTP/1.1\r\nA: " + b"a" * REQUEST_MAX_BYTES]
)
def test_a_request_that_is_too_long_is_refused(server: Server, request_: bytes) -> None:
    """Line and headers together are limited; what goes beyond gets a 4xx and an end."""
    with connect(server) as client:
        client.sendall(request_ + b"\r\n\r\n")
        answer = client.recv(4096)
    assert answer.split()[1] in {b"413", b"414"}


@pytest.mark.parametrize(
    "garbage", [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 9000]
)
def test_garbage_harms_nobody(server: Server, garbage: bytes) -> None:
    """What is no HTTP gets an end, and the next client its answer."""
    with connect(server) as client:
        client.sendall(garbage)
        wait_until(lambda: has_ended(client))
    assert Answer(server, "/-/healthy").status == 200


def has_ended(client: socket.socket) -> bool:
    """Whether all was said, after reading some of it."""
    try:
        return client.recv(4096) == b""
    except ConnectionError:
        return True


def test_one_connection_is_one_answer(server: Server) -> None:
    """No connection is kept: a client that sends many requests at once gets one answer and an end."""
    with connect(server) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        answer = client.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in answer


def test_a_fault_of_our_own_is_500_and_logged() -> None:
    """A page that cannot be made is an error in the log with its traceback, and the server goes on."""

    def fail() -> Status:
        raise ZeroDivisionError("on purpose")

    stream = io.StringIO()
    with serve(ANY_PORT, CollectorRegistry(), fail, open_log(LogConfig(), stream, {})) as server:
        assert Answer(server, "/-/ready").status == 500
        assert Answer(server, "/-/healthy").status == 200
    assert "http_failed" in stream.getvalue()
    assert "ZeroDivisionError: on purpose" in stream.getvalue()
