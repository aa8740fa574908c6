"""The benchmark's suite of precisions."""

from __future__ import annotations

import numpy as np

from benchmarks.precision import compare, tables


def test_both_precisions_are_scored_on_what_was_observed() -> None:
    """A sine is forecast better than by persistence in both, a little apart, whatever stands where nothing was seen."""
    values = np.sin(np.arange(400) / 5)[:, None].astype(np.float32) * np.array([1.0, 30.0], np.float32)
    observed = np.ones(values.shape, np.bool_)
    measured = compare(values, observed)
    assert measured["channels"] == 2
    assert measured["float32"] < 0.5
    assert measured["bfloat16"] < 0.5
    assert 0 < measured["distance"] <= measured["distance_most"] < 0.5


def test_channels_at_rest_are_left_out() -> None:
    """A channel that never changes has no error to compare with."""
    values = np.stack([np.sin(np.arange(300) / 5), np.ones(300)], axis=1).astype(np.float32)
    assert compare(values, np.ones(values.shape, np.bool_))["channels"] == 1


def test_table_names_the_series() -> None:
    """Every series has a row."""
    line = {
        "series": "pump",
        "channels": 3,
        "float32": 0.8,
        "bfloat16": 0.81,
        "distance": 0.01,
        "distance_most": 0.2,
    }
    assert "| pump " in tables([line])
