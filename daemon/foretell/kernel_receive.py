"""Receiving as machine code: parts that are all alike, as nearly always under load, in one call into one piece."""

from __future__ import annotations

from typing import Final

import zmq
from llvmlite import ir

from foretell.vector_ir import BYTES, INT, INTS, Function, constant

TAKE: Final = "take"
"""Name of the function that is made: see `write_take`."""

START_BYTES: Final = 6
"""Magic and channels of a packed part."""

_C_INT: Final = ir.IntType(32)
_ZMQ_MSG_RECV: Final = ir.FunctionType(_C_INT, [BYTES, BYTES, _C_INT]).as_pointer()
_ZMQ_MSG_DATA: Final = ir.FunctionType(BYTES, [BYTES]).as_pointer()


def write_take() -> str:
    """Write the module as text. It has one public function.

        i64 take(zmq_msg_recv, zmq_msg_data, socket, message, start, part_bytes, room, most)

    It takes up to `most` parts that have part_bytes, at least 8, and begin with `start` (the first 6 bytes as an
    integer), without waiting, and puts them into room u8 [most, part_bytes]. Gives their number n, or where another
    part came after them, which `message` then holds, -1 - n.
    """
    module = ir.Module("foretell receiving")
    f = Function(
        module, TAKE, [INT, INT, BYTES, BYTES, INT, INT, BYTES, INT], result=INT, lanes=1, is_public=True
    )
    code = f.code
    recv_at, data_at, socket, message, start, part_bytes, room, most = f.args
    recv, data_of = code.inttoptr(recv_at, _ZMQ_MSG_RECV), code.inttoptr(data_at, _ZMQ_MSG_DATA)
    copy = module.declare_intrinsic("llvm.memcpy", [BYTES, BYTES, INT])
    no_wait = ir.Constant(_C_INT, int(zmq.DONTWAIT))
    with f.loop(constant(0), most) as number:
        size = code.sext(code.call(recv, [message, socket, no_wait]), INT)
        with code.if_then(code.icmp_signed("<", size, constant(0))):
            code.ret(number)
        with code.if_then(code.icmp_signed("!=", size, part_bytes), likely=False):
            code.ret(code.not_(number))
        data = code.call(data_of, [message])
        head = code.load(code.bitcast(data, INTS), align=1)
        differs = code.icmp_unsigned("!=", code.and_(head, constant((1 << 8 * START_BYTES) - 1)), start)
        with code.if_then(differs, likely=False):
            code.ret(code.not_(number))
        target = f.at(room, f.times(number, part_bytes))
        code.call(copy, [target, data, part_bytes, ir.Constant(ir.IntType(1), 0)])
    code.ret(most)
    return str(module)
