"""Admissions and slot tables as plain values, so that == compares every bit of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.admission import Admission

if TYPE_CHECKING:
    from foretell.admit import Admitter


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries and arrays as dtype, shape and bytes, so that == compares every bit."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def columns(subject: Admitter) -> dict[str, Any]:
    """Everything that the table remembers."""
    table = subject.table
    arrays = {name: value for name, value in vars(table).items() if isinstance(value, np.ndarray)}
    return {name: plain(value) for name, value in arrays.items()} | {"by_name": dict(table.by_name)}


def plain_all(admissions: Any) -> list[Any]:
    """What `plain` makes of each, with counts of nothing left out."""
    result = []
    for admission in admissions:
        assert isinstance(admission, Admission)
        admission.resets = {reason: num for reason, num in admission.resets.items() if num}
        result.append(plain(admission))
    return result
