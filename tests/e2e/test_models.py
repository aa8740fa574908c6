"""What a running daemon forecasts is what the model says."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from daemon_process import own_environ
from e2e.conftest import StartDaemon
from e2e.link import Forecast, Link, by_stream, frame, frames

_NUM_FRAMES: Final = 60
_NAMES: Final = [b"pump-1", b"pump-2", b"valve", b"wheel"]


class Template(torch.nn.Module):
    """The plain single-step template that `foretell convert` takes."""

    def __init__(self, num_inputs: int, hidden_size: int, num_outputs: int, num_layers: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(num_inputs, hidden_size, num_layers, batch_first=True)
        self.linear = torch.nn.Linear(hidden_size, num_outputs)

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The plain loop: a frame at a time, the state carried along. [frames, inputs] to [frames, outputs]."""
        state, outputs = None, []
        with torch.inference_mode():
            for row in torch.from_numpy(values):
                out, state = self.lstm(row[None, None], state)
                outputs.append(self.linear(out[0, 0]))
        return torch.stack(outputs).numpy()


@pytest.mark.parametrize(("num_inputs", "num_outputs", "num_layers"), [(8, 8, 2), (5, 2, 1)])
def test_converted_model_says_what_the_plain_loop_says(
    start_daemon: StartDaemon, tmp_path: Path, num_inputs: int, num_outputs: int, num_layers: int
) -> None:
    """A state dict converted and served end to end equals a plain PyTorch loop over each stream to 1e-5."""
    torch.manual_seed(3)
    template = Template(num_inputs, 32, num_outputs, num_layers)
    torch.save(template.state_dict(), tmp_path / "template.pt")
    command = [sys.executable, "-m", "foretell", "convert", "template.pt", "-o", "template.safetensors"]
    subprocess.run(command, cwd=tmp_path, env=own_environ(), check=True, stdout=subprocess.DEVNULL)
    daemon = start_daemon(f"model.path={tmp_path}/template.safetensors")
    values = np.random.default_rng(4).normal(size=(_NUM_FRAMES, len(_NAMES), num_inputs)).astype(np.float32)
    with Link(daemon.input_endpoint, daemon.output_endpoint, num_channels=num_inputs) as link:
        for number, rows in enumerate(values):
            link.send(frames(_NAMES, [number] * len(_NAMES), rows))
        streams = by_stream(link.take(_NUM_FRAMES * len(_NAMES)))
    for index, name in enumerate(_NAMES):
        expected = template.predict(values[:, index])
        forecast = np.array([forecast.forecast for forecast in streams[name]])
        assert forecast.shape == (_NUM_FRAMES, 1, 1, num_outputs)
        np.testing.assert_allclose(forecast[:, 0, 0], expected, atol=1e-5, rtol=1e-5)


_Row = tuple[bytes, int, list[float]]
"""Name, number and values of a frame."""


def _random_rows() -> list[_Row]:
    """Frames of 30 streams in random order, with a frame missing now and then, which is filled."""
    rng = np.random.default_rng(5)
    names = [b"%02d" % number for number in range(30)]
    numbers = dict.fromkeys(names, 0)
    rows: list[_Row] = []
    for index in rng.integers(len(names), size=600).tolist():
        name = names[index]
        rows.append((name, numbers[name], rng.normal(size=3).tolist()))
        numbers[name] += 1 if rng.random() < 0.95 else 2
    return rows


def _cut(rows: Sequence[_Row], sizes: Sequence[int]) -> Iterator[Sequence[_Row]]:
    """The rows in messages of these sizes, over and over."""
    place = 0
    for size in itertools.cycle(sizes):
        yield rows[place : place + size]
        place += size
        if place >= len(rows):
            return


def _bytes_of(forecasts: Sequence[Forecast]) -> dict[tuple[bytes, int], bytes]:
    """The bits of each forecast, by stream and frame."""
    return {
        (forecast.name.partition(b"-")[2], forecast.frame): forecast.forecast.tobytes()
        for forecast in forecasts
    }


@pytest.mark.parametrize("model", ["any_width", "three_channels"])
def test_batched_equals_alone(start_daemon: StartDaemon, model: str, request: pytest.FixtureRequest) -> None:
    """Frames sent one by one and frames packed into large messages of many streams give the same bits."""
    daemon = start_daemon(f"model.path={request.getfixturevalue(model)}", "forecast.horizon=3")
    rows = _random_rows()
    alone: dict[tuple[bytes, int], bytes] = {}
    with Link(daemon.input_endpoint, daemon.output_endpoint, num_channels=3) as link:
        for name, number, values in rows:
            link.send(frame(b"alone-" + name, number, *values))
            alone.update(_bytes_of(link.take(1)))
        for message in _cut(rows, [256, 1, 7, 64]):
            names, numbers, values_of_all = zip(*message, strict=True)
            packed = [b"packed-" + name for name in names]
            link.send(frames(packed, numbers, np.array(values_of_all, np.float32)))
        batched = _bytes_of(link.take(len(rows)))
    assert len(alone) == len(rows)
    assert alone == batched
