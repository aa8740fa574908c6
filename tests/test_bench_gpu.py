"""The suite `gpu`: it says that there is no GPU, and what it measures can be measured. No speed is asserted."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.models import Size
from benchmarks.run import Setup
from benchmarks.suites import Line

CPU = torch.device("cpu")


def measured() -> list[Line]:
    """Figures of 20 streams on the CPU."""
    return [line | {"device": "test"} for line in gpu.measure(CPU, Size(8, 2), 20, [1, 20], 0.01, 2)]


def test_without_a_gpu_the_suite_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch finds no GPU the table is the reason, and nothing is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines: list[Line] = []
    table = gpu.run_suite(argparse.Namespace(quick=True, runs=None), Setup(tmp_path), lines.append, print)
    assert table.startswith("Skipped: ")
    assert lines == []


def test_every_batch_is_measured_in_every_round() -> None:
    """A line for each batch size and round, with what was stepped and how fast."""
    lines = measured()
    assert [(line["batch"], line["run"]) for line in lines] == [(1, 0), (1, 1), (20, 0), (20, 1)]
    assert all(line["frames_per_s"] > 0 and line["streams"] == 20 for line in lines)


def test_the_table_has_a_row_for_each_size() -> None:
    """Rounds of one size are one row: the median, and the least and the most."""
    rows = gpu.tables(measured()).splitlines()
    assert rows[0].startswith("test. ")
    assert [row.split("|")[4].strip() for row in rows[4:]] == ["1", "20"]
