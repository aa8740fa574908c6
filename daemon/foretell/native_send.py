"""The sending of `foretell.kernel_send`, compiled for this processor and run on a socket of libzmq's."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zmq

from foretell.kernel_send import SEND, write_send
from foretell.machine_code import compile_module
from foretell.native_zmq import NotNativeError, find_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from foretell.sockets import ZmqSocket

_FEW: Final = 256
"""So many messages are sent without letting go of the GIL: they take some 50 us."""

_ARGUMENTS: Final = [ctypes.c_int64, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 4]


class Code:
    """Machine code of the module of `write_send`, and where libzmq's `zmq_send` is."""

    def __init__(self) -> None:
        self._engine = compile_module(write_send())
        address = self._engine.get_function_address(SEND)
        self.call_alone = ctypes.PYFUNCTYPE(ctypes.c_int64, *_ARGUMENTS)(address)  # keeps the GIL
        self.call = ctypes.CFUNCTYPE(ctypes.c_int64, *_ARGUMENTS)(address)
        self.zmq_send = find_function("zmq_send")


@functools.cache
def compile_code() -> Code:
    """The machine code, compiled once in a process. Raises NotNativeError."""
    try:
        return Code()
    except RuntimeError as error:  # of LLVM
        raise NotNativeError(str(error)) from error


class NativeSender:
    """Sends many messages of `socket` in one call; its thread alone may use it. Raises NotNativeError.

    send: the binding's own, which is asked about a part that libzmq did not take, so that it tries again or raises.
    """

    def __init__(self, socket: ZmqSocket, send: Callable[..., Any]) -> None:
        self._code = compile_code()
        self._socket_at = socket.underlying
        self._send = send

    def send(self, topics: NDArray[np.bytes_] | None, records: NDArray[np.uint8]) -> None:
        """Send records u8 [n, bytes], a message each, under topics S64 [n] where there are any."""
        has_topics = topics is not None
        num_parts = len(records) << has_topics
        call = self._code.call_alone if num_parts <= _FEW else self._code.call
        places = (
            self._code.zmq_send,
            self._socket_at,
            topics.ctypes.data if topics is not None else None,
            records.ctypes.data,
        )
        part = 0
        while (part := call(*places, records.shape[1], has_topics, part, num_parts)) < num_parts:
            message, is_record = part >> has_topics, part & has_topics == has_topics
            if topics is None or is_record:
                self._send(records[message].tobytes())
            else:
                self._send(topics.item(message), int(zmq.SNDMORE))
            part += 1
