"""Where the functions of libzmq are that machine code calls."""

from __future__ import annotations

import ctypes
import sys

import zmq


class NotNativeError(Exception):
    """Machine code cannot send and receive here; the message says why."""


def find_function(name: str) -> int:
    """The address of a function of libzmq. Raises NotNativeError where the binding was built in another way."""
    try:
        # The binding's extension is linked with the one libzmq that its sockets are of.
        library = ctypes.CDLL(sys.modules[zmq.backend.Socket.__module__].__file__)
        address = ctypes.cast(library[name], ctypes.c_void_p).value
    except (AttributeError, OSError) as error:
        raise NotNativeError(str(error)) from error
    assert address is not None
    return address
