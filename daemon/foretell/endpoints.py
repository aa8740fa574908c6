"""What an address may look like, for ZeroMQ and for HTTP; judged before anything is opened."""

from __future__ import annotations

import re

ZMQ_ALLOWED = (
    "tcp://HOST:PORT (IPv6 in brackets, PORT 1 to 65535) or ipc://PATH; "
    "with mode bind also HOST * and PORT 0 for any"
)
HTTP_ALLOWED = 'http://HOST:PORT (IPv6 in brackets, PORT up to 65535, 0 for any), or "" for no HTTP'

_MAX_PORT = 65535
_MAX_IPC_PATH_BYTES = 107  # sockaddr_un on Linux, without the final NUL
_ADDRESS = re.compile(
    r"(?P<host>\*|\[(?P<ipv6>[^]]+)\]|[a-z0-9_](?:[\w.-]*\w)?):(?P<port>\d{1,5})", re.ASCII | re.IGNORECASE
)


def is_zmq_endpoint(endpoint: str, *, binds: bool) -> bool:
    """Whether it is an address to bind (`binds`), or else to connect."""
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc":
        return 0 < len(address.encode()) <= _MAX_IPC_PATH_BYTES and "\0" not in address
    match = _match(address)
    return (
        scheme == "tcp" and match is not None and (binds or (match["host"] != "*" and int(match["port"]) > 0))
    )


def is_http_endpoint(endpoint: str) -> bool:
    """Whether it is an address to serve HTTP at."""
    scheme, _, address = endpoint.partition("://")
    match = _match(address)
    return scheme == "http" and match is not None and match["host"] != "*"


def split_host_and_port(endpoint: str) -> tuple[str, int]:
    """Host (IPv6 without its brackets) and port of a `tcp://` or `http://` endpoint that was judged good."""
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _match(address: str) -> re.Match[str] | None:
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > _MAX_PORT:
        return None
    return match if match["ipv6"] is None or _is_ipv6(match["ipv6"]) else None


def _is_ipv6(address: str) -> bool:
    import ipaddress

    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True
