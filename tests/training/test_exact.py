"""Signals of which it is known what can be told."""

from __future__ import annotations

import numpy as np

from foretell.model import BUILTIN, load_model
from foretell.training.exact import NOISE, WALKS, Signals, exact_signals, ratios


def test_they_are_what_they_are_called() -> None:
    """Walks have independent steps, noise is independent, and sines come back after their period."""
    by_kind = {signals.kind: signals for signals in exact_signals()}
    for values in (np.diff(by_kind[WALKS].values, axis=0), by_kind[NOISE].values):
        following = np.mean(values[1:] * values[:-1], axis=0) / np.var(values, axis=0)
        assert np.abs(following).max() < 0.1
    sines = by_kind["sines of period 50"]
    np.testing.assert_allclose(sines.values[50:], sines.values[:-50], atol=2e-5)
    assert sines.first == 150


def test_the_built_in_model_loses_nothing_on_a_walk_and_tells_a_sine() -> None:
    """Against persistence a walk has at most 1.005, and a sine of period 16 after three periods at most .03."""
    model, rng = load_model(BUILTIN), np.random.default_rng(3)
    walks = rng.normal(size=(1500, 8)).cumsum(axis=0).astype(np.float32)
    assert ratios(model, Signals(WALKS, walks, 500, 1500)).mean() <= 1.005
    sine = np.sin(2.0 * np.pi * np.arange(400) / 16.0)[:, None] + 100.0
    assert ratios(model, Signals("sine", sine.astype(np.float32), 48, 400)).max() <= 0.03
