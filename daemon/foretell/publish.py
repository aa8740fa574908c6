"""The PUB socket: sends the forecasts of a batch in the form that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from foretell.choices import OutputFormat
from foretell.config import OutputConfig
from foretell.native_zmq import NotNativeError
from foretell.sockets import ZAP_DOMAIN, Transport, ZmqContext, ZmqSocket, configure, open_endpoints
from foretell.wire import (
    BATCH_TOPIC,
    Array,
    ForecastBatch,
    Names,
    encode_array,
    encode_packed,
    encode_packed_batch,
)

if TYPE_CHECKING:
    from foretell.native_send import NativeSender

_SNDMORE = int(zmq.SNDMORE)  # a plain integer: libzmq's binding takes it without a look into an enum


class Publisher:
    """A PUB socket that binds or connects the endpoint of its settings. Raises EndpointError where it cannot.

    Sending never waits: to a subscriber that is `high_water_mark` messages behind nothing more is sent until it
    catches up, and no other notices. The subscriber sees what it lost in `count`. (With XPUB_NODROP one stalled
    subscriber would hold the loop.)

    context: one from `sockets.open_context`; without its authenticator no peer gets in.
    endpoint: the one that was opened, with the port that was found for port 0 or `*`.
    """

    def __init__(self, context: ZmqContext, config: OutputConfig) -> None:
        self.socket: ZmqSocket = context.socket(zmq.PUB)
        try:
            configure(self.socket, Transport(linger_ms=config.linger_ms))
            self.socket.zap_domain = ZAP_DOMAIN
            self.socket.sndhwm = config.high_water_mark
            (self.endpoint,) = open_endpoints(self.socket, (config.endpoint,), config.mode)
        except BaseException:
            self.socket.close(linger=0)
            raise
        self._config = config
        # The binding's own `send`: half the time of the one in Python around it, which adds routes and groups.
        self._send = super(zmq.Socket, self.socket).send
        self._native = _open_native(self.socket, self._send)

    def publish(self, forecasts: ForecastBatch, latency_ns: int) -> None:
        """Send the forecasts of one batch, in their order; `latency_ns` is said in each of them."""
        if not forecasts.names:
            return
        if self._config.format is OutputFormat.ARRAY:
            self._send_arrays(forecasts.names, encode_array(forecasts, latency_ns))
        elif self._config.batch:
            self._send_records([BATCH_TOPIC], [encode_packed_batch(forecasts, latency_ns)])
        elif self._native is not None and isinstance(forecasts.names, Names):
            column = forecasts.names.column
            records = np.frombuffer(encode_packed_batch(forecasts, latency_ns), np.uint8)
            self._native.send(column if self._config.topic else None, records.reshape(column.size, -1))
        else:
            self._send_records(forecasts.names, encode_packed(forecasts, latency_ns))

    def close(self) -> None:
        """Close; what was published is still sent, for `linger_ms` at most, while the context is being closed."""
        self.socket.close()

    def _send_records(self, topics: Sequence[bytes], records: Sequence[bytes | memoryview]) -> None:
        send = self._send
        if not self._config.topic:
            for record in records:
                send(record)
            return
        for topic, record in zip(topics, records, strict=True):
            send(topic, _SNDMORE)
            send(record)

    def _send_arrays(self, topics: Sequence[bytes], arrays: Sequence[Array]) -> None:
        send, has_topic = self._send, self._config.topic
        for topic, (header, payload) in zip(topics, arrays, strict=True):
            if has_topic:
                send(topic, _SNDMORE)
            send(header, _SNDMORE)
            send(payload)


def _open_native(socket: ZmqSocket, send: Callable[..., Any]) -> NativeSender | None:
    """What sends the messages of a batch by machine code, None where it cannot."""
    try:
        from foretell.native_send import NativeSender  # llvmlite may be absent
    except ImportError:
        return None
    try:
        return NativeSender(socket, send)
    except NotNativeError:
        return None
