"""The kernel as machine code: the same bits for every processor's vectors, on any number of threads."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from llvmlite import binding as llvm

from foretell import native
from foretell.arena import Arena
from foretell.choices import Precision
from foretell.kernel_layout import Target
from foretell.model import Model, ModelSpec
from foretell.native import NativeKernel, NotNativeError, find_target
from small_models import independent_spec, joint_spec, model_of

TARGETS = [Target(4, 6), Target(4, 1), Target(8, 3), Target(16, 6), Target(16, 2)]


def kernel_of(model: Model, precision: Precision = Precision.FLOAT32, num_threads: int = 1) -> NativeKernel:
    """The kernel of a model, or a skipped test where there is none for this processor."""
    weights = {name: tensor.numpy() for name, tensor in model.weights.items()}
    try:
        return NativeKernel(model.spec, weights, precision, num_threads)
    except NotNativeError as error:
        pytest.skip(str(error))


def run(kernel: NativeKernel, model: Model, num_rows: int, num_steps: int) -> bytes:
    """All bits of outputs and states of some steps."""
    rng, arena = np.random.default_rng(0), Arena(model, num_rows)
    spec = model.spec
    x = rng.normal(size=(num_steps, num_rows, spec.input_channels)).astype(np.float32)
    y = np.empty((num_steps, num_rows, len(spec.quantiles), spec.output_channels), np.float32)
    assert kernel.advance(arena, rng.permutation(num_rows), x, None, y) is None
    return (
        y.tobytes()
        + arena.state.tobytes()
        + (b"" if arena.normalizer is None else arena.normalizer.tobytes())
    )


@pytest.mark.parametrize("spec", [joint_spec(3, 5, hidden=40, layers=2), independent_spec()])
@pytest.mark.parametrize("precision", Precision)
def test_the_bits_do_not_depend_on_the_width_of_vectors(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, spec: ModelSpec
) -> None:
    """Whatever the lanes and the rows of a tile, forecasts and states are the same."""
    model, results = model_of(spec), set()
    for target in TARGETS:
        monkeypatch.setattr(native, "find_target", lambda target=target: target)
        results.add(run(kernel_of(model, precision), model, 11, 3))
    assert len(results) == 1


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    """Rows that are stepped by several threads have the bits that one thread gives them."""
    model = model_of(joint_spec(3, hidden=40, layers=2))
    alone, shared = kernel_of(model), kernel_of(model, num_threads=3)
    shared.row_ns = 10**9  # as if every row were worth a thread
    assert run(shared, model, 100, 4) == run(alone, model, 100, 4)


def test_more_rows_than_ever_before_are_stepped() -> None:
    """A batch beyond every limit that the daemon keeps is no trouble."""
    model = model_of(joint_spec(1, hidden=4))
    large = run(kernel_of(model), model, 10_000, 1)
    assert len(large) == 4 * 10_000 * (1 + 32)


def test_the_products_of_bfloat16_are_close_to_the_processors_own() -> None:
    """Where a processor has products of bfloat16 pairs, they differ from ours in rounding alone."""
    if not find_target().has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    model = model_of(joint_spec(3, hidden=40, layers=2))
    own = np.frombuffer(run(kernel_of(model, Precision.BFLOAT16), model, 20, 3), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "find_target", lambda: Target(16, 6))
        ours = np.frombuffer(run(kernel_of(model, Precision.BFLOAT16), model, 20, 3), np.float32)
    np.testing.assert_allclose(own, ours, rtol=0, atol=0.02)


@pytest.mark.parametrize("machine", ["x86_64", "riscv64"])
def test_a_processor_without_fused_products_is_refused(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """The error names the processor and what it lacks."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(llvm, "get_host_cpu_features", dict)
    with pytest.raises(NotNativeError, match=machine):
        find_target()


def test_an_arm_processor_has_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 64-bit Arm processor has fused products and 32 registers of 4 lanes."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert find_target() == Target(lanes=4, tile_rows=6)
