"""The benchmark that `scripts/bench` runs: the daemon between a bare loop and a plain one, and what else does its work.

It is cut into suites (`suites.py` says what one is, `__main__.py` names them). All limits are in `limits.py`. What is
only measured, not needed by the daemon, is installed in build/bench/venv (`environment.py`).

The suite `rates` compares contenders, each a process of its own with the same model (by default joint, 8 channels, one
layer of 64):

- `bare` receives, decodes, looks up, steps once a round with weights packed once, publishes, and checks nothing: what
  the daemon's checks, metrics and generality are measured against (`bare.py`);
- `daemon` is `foretell run` as shipped, with settings for the load's size and endpoints alone;
- `plain` calls `nn.LSTM` once a frame, with the state carried in a dict: what one writes first (`plain.py`);
- the peers are other runtimes and libraries at the same work (`peers/`).

The load is one more process on the same machine (`load.py`): it sends frames and takes their forecasts. A run starts
a contender and a load anew (`run.py`) and measures twice (`measure.py`):

1. *Sustained*: frames go out as fast as forecasts come back, with a bounded number in flight, so that nothing is lost
   and the rate is the contender's own. Counted: forecasts a second, and the CPU time of the whole contender, every
   thread of it, user and system, a forecast.
2. *Paced*: an open loop at half of that rate. A frame is due at a time fixed beforehand, its latency counts from then
   to the receipt of its forecast, however late it was sent: a stall is felt by every frame that was due meanwhile.

With `message` packing every frame is a message and so is every forecast; with `packed` 256 frames are a message, due
together, and the contender answers in whole batches. Frames go round the streams in turn. All contenders are measured
for the same time, in which those that forecast one by one answer a hundredth of the others' frames; fewer of theirs
are in flight, so that a run does not last long.
"""
