"""The receiving of `foretell.kernel_receive`, compiled for this processor and run on a socket of libzmq's."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Final

import numpy as np

from foretell.kernel_receive import START_BYTES, TAKE, write_take
from foretell.machine_code import compile_module
from foretell.native_zmq import NotNativeError, find_function
from foretell.wire_types import Parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretell.sockets import ZmqSocket

_MESSAGE_BYTES: Final = 64  # of a zmq_msg_t


class Code:
    """Machine code of the module of `write_take`, and libzmq's functions for messages."""

    def __init__(self) -> None:
        self._engine = compile_module(write_take())
        kinds = [
            *[ctypes.c_int64] * 2,
            *[ctypes.c_void_p] * 2,
            *[ctypes.c_int64] * 2,
            ctypes.c_void_p,
            ctypes.c_int64,
        ]
        self.take = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(self._engine.get_function_address(TAKE))
        self.recv, self.data = find_function("zmq_msg_recv"), find_function("zmq_msg_data")
        one = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
        self.init, self.close = one(find_function("zmq_msg_init")), one(find_function("zmq_msg_close"))
        self.data_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(self.data)
        self.size_of = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(find_function("zmq_msg_size"))


@functools.cache
def compile_code() -> Code:
    """The machine code, compiled once in a process. Raises NotNativeError."""
    try:
        return Code()
    except RuntimeError as error:  # of LLVM
        raise NotNativeError(str(error)) from error


class NativeReceiver:
    """Takes many parts from `socket` in one call; its thread alone may use it. Raises NotNativeError."""

    def __init__(self, socket: ZmqSocket) -> None:
        self._code = compile_code()
        self._socket_at = socket.underlying
        self._message = (ctypes.c_uint64 * (_MESSAGE_BYTES // 8))()

    def take(self, first: Sequence[bytes], most: int) -> tuple[Parts, bytes | None]:
        """Up to `most` parts that are there and like the `first`, which are alike and stand before them.

        And the part that came next and is another; None where none did.
        """
        code, at = self._code, ctypes.addressof(self._message)
        num_before, part_bytes = len(first), len(first[0])
        room = np.empty((num_before + most, part_bytes), np.uint8)
        room.reshape(-1)[: num_before * part_bytes] = np.frombuffer(b"".join(first), np.uint8)
        start = int.from_bytes(first[0][:START_BYTES], "little")
        free = room[num_before:].ctypes.data
        code.init(at)
        num = code.take(code.recv, code.data, self._socket_at, at, start, part_bytes, free, most)
        other = None
        if num < 0:
            num, other = -1 - num, ctypes.string_at(code.data_of(at), code.size_of(at))
        code.close(at)
        return Parts(room[: num_before + num]), other
