"""River: Holt-Winters a channel of every stream, learned and asked frame by frame. Another model, and a smaller one.

What a Python user would pick for online forecasts. Of River's two forecasters it is the faster: SNARIMAX fits a
regression anew with every value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from river import time_series

from benchmarks.by_frame import FrameByFrame
from benchmarks.contender import Task, serve


class RiverModels:
    """The models of all streams, each made when the stream is first seen."""

    def __init__(self) -> None:
        self._models: dict[bytes, list[time_series.HoltWinters]] = {}

    def forecast(self, name: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The forecast [channels] after a stream's next values [channels]; of the first values, these themselves."""
        models = self._models.get(name)
        if models is None:
            models = [time_series.HoltWinters(alpha=0.3, beta=0.1) for _ in values]
            self._models[name] = models
            for model, value in zip(models, values.tolist(), strict=True):
                model.learn_one(value)
            return values
        forecast = []
        for model, value in zip(models, values.tolist(), strict=True):
            model.learn_one(value)
            forecast.append(model.forecast(horizon=1)[0])
        return np.array(forecast, np.float32)


def river_loop(task: Task) -> FrameByFrame:
    """The loop around it."""
    return FrameByFrame(task, RiverModels().forecast)


if __name__ == "__main__":
    serve(lambda task: river_loop(task).turn, __doc__)
