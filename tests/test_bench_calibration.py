"""The benchmark's suite of calibration."""

from __future__ import annotations

from benchmarks.calibration import Kind, models, tables


def test_the_same_network_is_stepped_in_every_kind() -> None:
    """What differs is the normaliser and the calibration alone."""
    by_kind = models()
    specs = {kind: model.spec for kind, model in by_kind.items()}
    assert [specs[kind].normalizer is None for kind in Kind] == [True, False, False]
    assert [specs[kind].calibrator is None for kind in Kind] == [True, True, False]
    assert all(model.weights is by_kind[Kind.STEP].weights for model in by_kind.values())
    assert len({tuple(spec.tensor_shapes().items()) for spec in specs.values()}) == 1


def test_what_both_add_is_a_share_of_the_step() -> None:
    """The share is of the step alone, and judged where it has a limit."""
    lines = [
        {"kind": kind, "batch": 1024, "run": run, "us_per_row": us}
        for run in range(3)
        for kind, us in ((Kind.STEP, 2.0), (Kind.NORMALIZED, 2.5), (Kind.CALIBRATED, 3.2))
    ]
    row = tables(lines).splitlines()[-1]
    assert "0.60" in row
    assert "FAIL" in row
