"""ONNX Runtime's LSTM: a plain model as a graph, and its step with the states of many streams in numpy arrays.

Both the peers over the sockets and the suite `step` use it. It needs `onnx` and `onnxruntime`, which only the
environment for what is measured has (`benchmarks.environment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_OPSET: Final = 17
_IR_VERSION: Final = 8
_GATES: Final = (0, 3, 1, 2)
"""PyTorch's gates (input, forget, cell, output) in the order of ONNX (input, output, forget, cell)."""

_TOLERANCE: Final = 1e-5

_MOST_BOUND: Final = 64
"""Rows, times steps, up to which memory is bound once for each shape: it spares 6 us a call."""


@dataclass(frozen=True)
class _Bound:
    """Memory that a run reads and writes without being told anew: for one shape of the values."""

    binding: onnxruntime.IOBinding
    x: NDArray[np.float32]
    before: list[NDArray[np.float32]]
    y: NDArray[np.float32]
    after: list[NDArray[np.float32]]


class OnnxStep:
    """Steps distinct slots of an arena: gather, one run of the graph, scatter.

    Raises ValueError where the graph does not give what PyTorch gives.
    """

    def __init__(
        self, lstm: torch.nn.LSTM, linear: torch.nn.Linear, capacity: int, num_threads: int = 1
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
        self._session = onnxruntime.InferenceSession(
            write_graph(lstm, linear), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._names = [f"{part}{layer}" for layer in range(lstm.num_layers) for part in "hc"]
        self._hidden_size, self._num_outputs = lstm.hidden_size, linear.out_features
        self._arenas = [np.zeros((capacity, self._hidden_size), np.float32) for _ in self._names]
        self._room = [np.empty((0, self._hidden_size), np.float32) for _ in self._names]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._compare(lstm, linear)

    def __call__(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Slots i64 [n] and values float32 [steps, n, channels] to forecasts of that shape, until the next call."""
        if len(values) * slots.size <= _MOST_BOUND:
            return self._step_few(slots, values)
        n, feed = slots.size, {"x": values}
        if n > len(self._room[0]):
            self._room = [np.empty((n, self._hidden_size), np.float32) for _ in self._names]
        for name, arena, room in zip(self._names, self._arenas, self._room, strict=True):
            np.take(arena, slots, axis=0, out=room[:n], mode="clip")  # `clip` spares a copy of the output
            feed[name] = room[None, :n]
        y: NDArray[np.float32]
        y, *states = self._session.run(self._outputs, feed)
        for arena, state in zip(self._arenas, states, strict=True):
            arena[slots] = state[0]
        return y

    def _step_few(self, slots: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        bound = self._bound.get(values.shape)
        if bound is None:
            bound = self._bound[values.shape] = self._bind(values)
        bound.x[:] = values
        for arena, room in zip(self._arenas, bound.before, strict=True):
            np.take(arena, slots, axis=0, out=room[0], mode="clip")
        self._session.run_with_iobinding(bound.binding)
        for arena, state in zip(self._arenas, bound.after, strict=True):
            arena[slots] = state[0]
        return bound.y

    def _bind(self, values: NDArray[np.float32]) -> _Bound:
        num_steps, num_rows, _ = values.shape
        before, after = (
            [np.empty((1, num_rows, self._hidden_size), np.float32) for _ in self._names] for _ in range(2)
        )
        x, y = np.empty_like(values), np.empty((num_steps, num_rows, self._num_outputs), np.float32)
        binding = self._session.io_binding()
        for name, array in zip(["x", *self._names], [x, *before], strict=True):
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in zip(self._outputs, [y, *after], strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return _Bound(binding, x, before, y, after)

    def _compare(self, lstm: torch.nn.LSTM, linear: torch.nn.Linear) -> None:
        """Three slots, five steps in two calls, beside PyTorch."""
        import torch

        values = np.random.default_rng(0).normal(size=(5, 3, lstm.input_size)).astype(np.float32)
        slots = np.arange(min(3, len(self._arenas[0])))
        values = np.ascontiguousarray(values[:, : slots.size])
        with torch.inference_mode():
            expected = linear(lstm(torch.from_numpy(values))[0]).numpy()
        given = np.concatenate([self(slots, values[:2]).copy(), self(slots, values[2:])])
        for arena in self._arenas:
            arena[:3] = 0.0
        if not np.allclose(given, expected, rtol=0.0, atol=_TOLERANCE):
            raise ValueError(f"ONNX Runtime is {np.abs(given - expected).max():.1e} away from PyTorch")


def write_graph(lstm: torch.nn.LSTM, linear: torch.nn.Linear) -> bytes:
    """The graph as bytes: x [steps, rows, inputs] and h0, c0, h1... [1, rows, hidden] to y and the new h and c.

    y is [steps, rows, outputs]; the new states follow it in the order of the old ones.
    """
    steps, rows = "steps", "rows"  # sizes that are not fixed
    state_shape = [1, rows, lstm.hidden_size]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, rows, lstm.input_size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [steps, rows, linear.out_features])]
    nodes: list[Any] = []
    constants = [numpy_helper.from_array(np.array([1]), "directions")]
    below = "x"
    for layer in range(lstm.num_layers):
        weight_ih, weight_hh, bias_ih, bias_hh = (
            _in_order_of_onnx(getattr(lstm, f"{name}_l{layer}"))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        constants += [
            numpy_helper.from_array(weight_ih[None], f"w{layer}"),
            numpy_helper.from_array(weight_hh[None], f"r{layer}"),
            numpy_helper.from_array(np.concatenate([bias_ih, bias_hh])[None], f"b{layer}"),
        ]
        for part in (f"h{layer}", f"c{layer}"):
            inputs.append(helper.make_tensor_value_info(part, TensorProto.FLOAT, state_shape))
            outputs.append(helper.make_tensor_value_info(f"next_{part}", TensorProto.FLOAT, state_shape))
        taken = [below, f"w{layer}", f"r{layer}", f"b{layer}", "", f"h{layer}", f"c{layer}"]
        given = [f"all_{layer}", f"next_h{layer}", f"next_c{layer}"]
        nodes.append(helper.make_node("LSTM", taken, given, hidden_size=lstm.hidden_size))
        below = f"out_{layer}"
        nodes.append(helper.make_node("Squeeze", [f"all_{layer}", "directions"], [below]))
    constants.append(numpy_helper.from_array(linear.weight.detach().numpy().T.copy(), "weight"))
    constants.append(numpy_helper.from_array(linear.bias.detach().numpy(), "bias"))
    nodes.append(helper.make_node("MatMul", [below, "weight"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["y"]))
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    written: bytes = model.SerializeToString()
    return written


def _in_order_of_onnx(weights: torch.Tensor) -> NDArray[np.float32]:
    gates = weights.detach().numpy().reshape(4, -1, *weights.shape[1:])
    reordered: NDArray[np.float32] = np.concatenate([gates[gate] for gate in _GATES])
    return reordered
