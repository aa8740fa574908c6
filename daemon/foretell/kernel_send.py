"""Sending as machine code: the messages of a batch in one call, each by libzmq's own `zmq_send`."""

from __future__ import annotations

from typing import Final

import zmq
from llvmlite import ir

from foretell.vector_ir import BYTE, BYTES, INT, Function, Value, constant
from foretell.wire_types import NAME_MAX_BYTES

SEND: Final = "send"
"""Name of the function that is made: see `write_send`."""

_C_INT: Final = ir.IntType(32)
_ZMQ_SEND: Final = ir.FunctionType(_C_INT, [BYTES, BYTES, INT, _C_INT]).as_pointer()
_NAME: Final = ir.VectorType(BYTE, NAME_MAX_BYTES)


def write_send() -> str:
    """Write the module as text. It has one public function.

        i64 send(zmq_send, socket, topics, records, record_bytes, has_topics, first_part, num_parts)

    It sends records u8 [messages, record_bytes] as messages of one part, or with has_topics (0 or 1) of two, the first
    of them the topic, of topics S64 [messages] up to its padding. Parts are counted over all messages and sent from
    `first_part` on. Gives the first one that libzmq did not take, or `num_parts`.
    """
    module = ir.Module("foretell sending")
    kinds = [INT, BYTES, BYTES, BYTES, INT, INT, INT, INT]
    f = Function(module, SEND, kinds, result=INT, lanes=1, is_public=True)
    code = f.code
    address, socket, topics, records, record_bytes, has_topics, first, num = f.args
    zmq_send = code.inttoptr(address, _ZMQ_SEND)
    start, size, flags = f.variable(BYTES), f.variable(INT), f.variable(_C_INT)
    with f.loop(first, num) as part:
        message = code.lshr(part, has_topics)
        is_topic = code.icmp_unsigned("<", code.and_(part, has_topics), has_topics)
        with code.if_else(is_topic) as (when_topic, when_record):
            with when_topic:
                topic = f.at(topics, f.times(message, NAME_MAX_BYTES))
                code.store(topic, start)
                code.store(_length(f, topic), size)
                code.store(ir.Constant(_C_INT, int(zmq.SNDMORE)), flags)
            with when_record:
                code.store(f.at(records, f.times(message, record_bytes)), start)
                code.store(record_bytes, size)
                code.store(ir.Constant(_C_INT, 0), flags)
        taken = code.call(zmq_send, [socket, code.load(start), code.load(size), code.load(flags)])
        with code.if_then(code.icmp_signed("<", taken, ir.Constant(_C_INT, 0)), likely=False):
            code.ret(part)
    code.ret(num)
    return str(module)


def _length(f: Function, name: Value) -> Value:
    """Bytes of a name before its padding."""
    code = f.code
    cells = code.load(code.bitcast(name, _NAME.as_pointer()), align=1)
    is_nul = code.icmp_unsigned("==", cells, ir.Constant(_NAME, [0] * NAME_MAX_BYTES))
    bits = code.bitcast(is_nul, INT)
    before = f.intrinsic("llvm.cttz.i64", INT, bits, ir.Constant(ir.IntType(1), 0))
    return code.select(code.icmp_unsigned("==", bits, constant(0)), constant(NAME_MAX_BYTES), before)
