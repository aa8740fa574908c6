"""For Python users: send frames to a daemon and take its forecasts.

    from foretell.client import Producer, Subscriber

    with Producer("tcp://127.0.0.1:5555") as producer:
        producer.send("pump-1", [20.1, 3.4])

    with Subscriber("tcp://127.0.0.1:5556", streams=["pump-1"]) as subscriber:
        for forecast in subscriber:
            print(forecast.source, forecast.frame, forecast.median[0])

Neither imports torch, and neither may be used by two threads at a time.
"""

from __future__ import annotations

from foretell.producer import PeerTimeoutError, Producer
from foretell.subscriber import Forecast, Subscriber

__all__ = ["Forecast", "PeerTimeoutError", "Producer", "Subscriber"]
