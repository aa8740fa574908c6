"""The daemon's engine alone, on the batches that the load would give it: what its step makes without sockets.

Prints one line of JSON: frames and rows a second, and CPU microseconds a frame.
"""

from __future__ import annotations

import argparse
import gc
import json
import time

import numpy as np

from benchmarks.contender import MAX_FRAMES
from benchmarks.records import FRAME, Frames
from foretell.arena import rows_per_stream
from foretell.config import Config, ModelConfig
from foretell.model import Model, load_model
from foretell.rounds import Steps
from foretell.run import choose_num_threads
from foretell.step import Engine

_WARM_UP_S = 0.3


def steps_of_batch(model: Model, num_streams: int, num_frames: int) -> Steps:
    """What admission makes of a batch of the load: `num_frames` frames, one of every stream in turn."""
    num_rows = rows_per_stream(model, 8)
    stream = np.arange(num_frames) % num_streams
    rows = stream[:, None] * num_rows + np.arange(num_rows)
    [part] = Frames(num_streams, num_frames).take(1, 0)
    round_ends = [*range(num_streams, num_frames, num_streams), num_frames]
    # A batch of one round is in the order of arrival; of several, its forecasts are put back into that order.
    frame = np.arange(num_frames) if len(round_ends) > 1 else None
    values = np.ascontiguousarray(np.frombuffer(part, FRAME)["values"])
    return Steps(rows, values, round_ends, num_frames, frame=frame)


def main() -> None:
    """Step for so long and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="as model.path")
    parser.add_argument("--streams", required=True, type=int)
    parser.add_argument("--seconds", required=True, type=float)
    args = parser.parse_args()

    model = load_model(args.model)
    num_threads = choose_num_threads(Config(model=ModelConfig(path=args.model)), model)
    steps = steps_of_batch(model, args.streams, MAX_FRAMES)
    engine = Engine(model, args.streams * steps.rows.shape[1], num_threads=num_threads)
    engine.warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    _step_for(engine, steps, _WARM_UP_S)
    began_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    num_frames = _step_for(engine, steps, args.seconds)
    time_ns, cpu_ns = time.monotonic_ns() - began_ns, time.process_time_ns() - cpu_ns
    rate = num_frames / time_ns * 1e9
    print(
        json.dumps(
            {
                "frames_per_s": rate,
                "rows_per_s": rate * steps.rows.shape[1],
                "cpu_us_per_frame": cpu_ns / num_frames / 1e3,
            }
        )
    )


def _step_for(engine: Engine, steps: Steps, seconds: float) -> int:
    until_ns, num_frames = time.monotonic_ns() + int(seconds * 1e9), 0
    while time.monotonic_ns() < until_ns:
        engine.step(steps)
        num_frames += steps.num_frames
    return num_frames


if __name__ == "__main__":
    main()
