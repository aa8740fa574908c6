"""Producers and readers that are not of our making."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import mflow
import numpy as np
import pytest

from e2e.conftest import StartDaemon
from e2e.link import DEADLINE_S, Forecast, Link, frame
from foretell.wire import Flag

_NUM_FRAMES = 200
_PRODUCER = Path(__file__).with_name("producer.c")
_NUM_C_FRAMES = 1000  # what producer.c sends


def _mflow_message(source: str, number: int, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    header = {
        "htype": "array-1.0",
        "type": str(values.dtype),
        "shape": list(values.shape),
        "source": source,
        "frame": number,
    }
    return {"header": header, "data": [values]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mflow_producer_is_forecast(start_daemon: StartDaemon, any_width: Path, dtype: str) -> None:
    """Frames that mflow publishes as array-1.0 are forecast one by one, their values unchanged."""
    daemon = start_daemon(f"model.path={any_width}")
    values = np.random.default_rng(1).normal(size=(_NUM_FRAMES, 3)).astype(dtype)
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        stream = mflow.connect(
            daemon.input_endpoint, conn_type=mflow.CONNECT, mode=mflow.PUB, queue_size=2 * _NUM_FRAMES
        )
        try:
            # mflow's PUB cannot tell that it is listened to: until then what it sends goes nowhere.
            number = 0
            while not link.subscriber.poll(20):
                stream.forward(_mflow_message("warm-up", number, values[:1]))
                number += 1
            for number, row in enumerate(values):
                stream.forward(_mflow_message("mflow", number, row))
            forecasts = _take_of(link, b"mflow", _NUM_FRAMES)
        finally:
            stream.disconnect()
    assert [forecast.frame for forecast in forecasts] == list(range(_NUM_FRAMES))
    assert np.array_equal([forecast.values for forecast in forecasts], values.astype(np.float32))


def _take_of(link: Link, name: bytes, num_forecasts: int) -> list[Forecast]:
    """So many forecasts of one stream; those of others are passed over."""
    taken: list[Forecast] = []
    while len(taken) < num_forecasts:
        taken += [forecast for forecast in link.receive() if forecast.name == name]
    return taken


def test_mflow_reader_reads_forecasts(start_daemon: StartDaemon, any_width: Path) -> None:
    """With `output.topic = false` mflow reads our forecasts, as arrays of [horizon, quantiles, channels]."""
    daemon = start_daemon(f"model.path={any_width}", "output.topic=false", "forecast.horizon=4")
    # Without a topic every subscriber takes the probes too.
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        reader = mflow.connect(
            daemon.output_endpoint,
            conn_type=mflow.CONNECT,
            mode=mflow.SUB,
            queue_size=2 * _NUM_FRAMES,
            receive_timeout=round(DEADLINE_S * 1000),
        )
        try:
            number = 0
            while not reader.socket.poll(20):  # until the daemon knows of the reader
                link.send(frame(b"warm-up", number, 0.0, 0.0))
                number += 1
            for number in range(_NUM_FRAMES):
                link.send(frame(b"pump", number, number / 7, -number))
            messages = [reader.receive()]
            while messages[-1].data["header"]["source"] != "pump":
                messages = [reader.receive()]
            messages += [reader.receive() for _ in range(_NUM_FRAMES - 1)]
        finally:
            reader.disconnect()
        ours = _take_of(link, b"pump", _NUM_FRAMES)
    assert [message.data["header"]["frame"] for message in messages] == list(range(_NUM_FRAMES))
    for message, forecast in zip(messages, ours, strict=True):
        (array,) = message.data["data"]
        assert array.shape == (4, 3, 2)
        assert np.array_equal(array, forecast.forecast, equal_nan=True)


@pytest.fixture(scope="module")
def c_producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's C program, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("c") / "producer"
    includes = subprocess.run(
        [compiler, "-E", "-include", "zmq.h", "-x", "c", "/dev/null"], capture_output=True, check=False
    )
    if includes.returncode:
        pytest.skip("no zmq.h: libzmq's development files are not installed")
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Werror", "-O2", _PRODUCER, "-o", program, "-lzmq"], check=True
    )
    return program


@pytest.mark.parametrize("endpoint", ["ipc", "tcp"])
def test_c_producer_misses_no_frame(
    start_daemon: StartDaemon, any_width: Path, c_producer: Path, endpoint: str, tmp_path: Path
) -> None:
    """A C program on libzmq sends packed records: all of its frames arrive, bit for bit and in order."""
    address = f"ipc://{tmp_path}/c" if endpoint == "ipc" else "tcp://127.0.0.1:0"
    daemon = start_daemon(f"model.path={any_width}", f'input.endpoints=["{address}"]')
    with Link(daemon.input_endpoint, daemon.output_endpoint) as link:
        subprocess.run([c_producer, daemon.input_endpoint], check=True, timeout=DEADLINE_S)
        forecasts = _take_of(link, b"pump-2", _NUM_C_FRAMES)
    number = np.arange(_NUM_C_FRAMES, dtype=np.float32)
    expected = np.stack([number / np.float32(8), np.float32(100) - number], axis=1)
    assert [forecast.frame for forecast in forecasts] == list(range(_NUM_C_FRAMES))
    assert np.array_equal([forecast.values for forecast in forecasts], expected)
    assert len({forecast.epoch for forecast in forecasts} - {0}) == 1
    assert not any(forecast.flags & (Flag.GAP | Flag.UNNUMBERED) for forecast in forecasts)
    assert daemon.metrics().value("frames_missed_total") == 0
