"""What the observer counts, says in the log, and says of itself."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from foretell.admission import EvictReason
from foretell.connections import ConnectionChanges, Disconnect
from foretell.events import LINE_INTERVAL_NS
from foretell.order import ResetReason
from foretell.wire import Refusal
from observing import FakeAdmission, Observed

OPEN_LABELS = {"level", "stream", "channel"}
"""What the model and the producers say."""

README = Path(__file__).resolve().parent.parent / "configs" / "README.md"

COUNTS = st.dictionaries(st.sampled_from(Refusal), st.integers(0, 1000))
BATCHES = st.lists(st.tuples(COUNTS, st.integers(0, 5), COUNTS, st.integers(0, 300)), max_size=10)


@pytest.fixture
def observed() -> Observed:
    """An observer that nothing was told."""
    return Observed()


def publish(observed: Observed, num_frames: int, *ages_ns: int, latency_ns: int = 1_000_000) -> None:
    """Tell of frames that were published, of these ages."""
    ages = np.array(ages_ns or [2_000_000] * num_frames, np.int64)
    observed.observer.published(observed.utc_clock.now_ns - ages, latency_ns)


def identities_hold(observed: Observed) -> None:
    """Scrape once; an AssertionError where the accounts do not balance."""
    families = {family.name: family for family in observed.observer._metrics.collect()}
    received, accepted, published, pending = (
        families[f"foretell_{name}"].samples[0].value
        for name in ("frames_received", "frames_accepted", "forecasts_published", "frames_pending")
    )
    refused = sum(sample.value for sample in families["foretell_frames_refused"].samples)
    assert received == accepted + refused
    assert accepted == published + pending


# -- counts


@settings(max_examples=50)
@given(BATCHES)
def test_the_accounts_balance_after_every_word_of_the_loop(
    batches: list[tuple[dict[Refusal, int], int, dict[Refusal, int], int]],
) -> None:
    """That received = accepted + refused and accepted = published + pending, whatever is told and whenever."""
    observed = Observed()
    for refused, num_malformed, late, num_accepted in batches:
        observed.observer.decoded(refused, num_malformed)
        identities_hold(observed)
        observed.observer.admitted(FakeAdmission(refused=Counter(late), num=num_accepted), 1)
        identities_hold(observed)
        publish(observed, num_accepted)
        identities_hold(observed)
    num_refused = sum(sum(refused.values()) + sum(late.values()) + num for refused, num, late, _ in batches)
    assert observed.sample("foretell_frames_received_total") == num_refused + sum(num for *_, num in batches)


def test_the_accounts_balance_at_every_scrape_while_the_loop_runs(observed: Observed) -> None:
    """A scrape in another thread never sees part of a batch."""
    is_over = threading.Event()
    num_scrapes = 0

    def tell() -> None:
        refused: Counter[Refusal] = Counter({Refusal.LATE: 3, Refusal.NO_SLOT: 2})
        while not is_over.is_set():
            observed.observer.decoded({Refusal.MALFORMED: 1}, 1)
            observed.observer.admitted(FakeAdmission(refused=refused, num=7), 1)
            publish(observed, 7)

    loop = threading.Thread(target=tell)
    loop.start()
    try:
        while num_scrapes < 100:
            identities_hold(observed)
            num_scrapes += 1
    finally:
        is_over.set()
        loop.join()
    assert observed.sample("foretell_forecasts_published_total") > 0


def test_frames_between_admission_and_publication_are_pending(observed: Observed) -> None:
    """`foretell_frames_pending` is what is on its way."""
    observed.observer.admitted(FakeAdmission(num=5), 2)
    assert observed.sample("foretell_frames_pending") == 5
    publish(observed, 3)
    assert observed.sample("foretell_frames_pending") == 2


def test_everything_about_a_batch_is_counted(observed: Observed) -> None:
    """What admission found is in the metrics, each under its name and reason."""
    admission = FakeAdmission(
        num=4,
        refused=Counter({Refusal.LATE: 2}),
        resets=Counter({ResetReason.GAP: 3}),
        evicted=Counter({EvictReason.FULL: 5}),
        num_missed=2**64 - 2,
        num_epochs=6,
        num_imputed=7,
    )
    observed.observer.admitted(admission, 9)
    observed.observer.reset(ResetReason.NON_FINITE, 8)
    observed.observer.evicted_idle(2, 7)
    assert observed.sample("foretell_frames_refused_total", reason="late") == 2
    assert observed.sample("foretell_state_resets_total", reason="gap") == 3
    assert observed.sample("foretell_state_resets_total", reason="non_finite") == 8
    assert observed.sample("foretell_streams_evicted_total", reason="full") == 5
    assert observed.sample("foretell_streams_evicted_total", reason="idle") == 2
    assert observed.sample("foretell_frames_missed_total") == float(2**64 - 2)
    assert observed.sample("foretell_epochs_total") == 6
    assert observed.sample("foretell_values_imputed_total") == 7
    assert observed.sample("foretell_streams") == 7
    assert observed.sample("foretell_stream_capacity") == 16


def test_a_turn_is_timed_by_phase_and_counts_its_frames(observed: Observed) -> None:
    """A turn adds one observation to every phase, its time to the busy time, and its frames, refused ones too, once."""
    observed.observer.decoded({}, 1)
    observed.observer.admitted(FakeAdmission(num=3), 1)
    observed.observer.turned(20_000_000, [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000])
    observed.observer.admitted(FakeAdmission(num=10), 1)
    observed.observer.turned(30_000_000, [0, 0, 0, 0, 0])
    phases = {
        phase: observed.sample("foretell_stage_duration_seconds_sum", phase=phase)
        for phase in ("receive", "decode", "admit", "step", "publish")
    }
    assert phases == {"receive": 0.001, "decode": 0.002, "admit": 0.003, "step": 0.004, "publish": 0.005}
    assert observed.sample("foretell_stage_duration_seconds_count", phase="step") == 2
    assert observed.sample("foretell_loop_busy_seconds_total") == 0.05
    assert observed.sample("foretell_batch_frames_sum") == 14
    assert observed.sample("foretell_batch_frames_bucket", le="4.0") == 1


def test_latency_is_counted_once_a_frame(observed: Observed) -> None:
    """All frames of a batch have its latency."""
    publish(observed, 100, latency_ns=2_000_000)
    assert observed.sample("foretell_frame_latency_seconds_count") == 100
    assert observed.sample("foretell_frame_latency_seconds_sum") == pytest.approx(0.2)
    assert observed.sample("foretell_frame_latency_seconds_bucket", le="0.0018") == 0
    assert observed.sample("foretell_frame_latency_seconds_bucket", le="0.0032") == 100


@pytest.mark.parametrize("num_frames", [1, 2], ids=["alone", "with others"])
def test_a_frame_from_the_future_has_age_zero(observed: Observed, num_frames: int) -> None:
    """A producer whose clock is ahead does not make the sum of ages smaller."""
    publish(observed, num_frames, *[-5_000_000_000] * num_frames)
    assert observed.sample("foretell_frame_age_seconds_sum") == 0
    assert observed.sample("foretell_frame_age_seconds_bucket", le="1e-05") == num_frames


@settings(max_examples=50)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_no_timestamp_is_too_strange_for_an_age(timestamps: list[int]) -> None:
    """Ages are never negative and add up exactly, whatever the 64 bits of a timestamp say."""
    observed = Observed()
    observed.observer.published(np.array(timestamps, np.int64), 0)
    now_ns = observed.utc_clock.now_ns
    ages = [min(max(now_ns - timestamp, 0), 2**63 - 1) for timestamp in timestamps]
    assert observed.sample("foretell_frame_age_seconds_sum") == sum(ages) / 1e9
    assert observed.sample("foretell_frame_age_seconds_count") == len(ages)


def test_the_time_of_the_last_frame_is_utc(observed: Observed) -> None:
    """Before any frame it is 0, then what the clock on the wall said."""
    assert observed.sample("foretell_last_frame_timestamp_seconds") == 0
    publish(observed, 1)
    assert observed.sample("foretell_last_frame_timestamp_seconds") == 1_700_000_000


def test_connections_are_counted(observed: Observed) -> None:
    """The open ones are a gauge, the ended ones counters by reason."""
    observed.observer.connections(ConnectionChanges(3, {Disconnect.CLOSED: 2, Disconnect.PROTOCOL: 1}))
    assert observed.sample("foretell_input_connections") == 3
    assert observed.sample("foretell_input_disconnects_total", reason="closed") == 2
    assert observed.sample("foretell_input_disconnects_total", reason="protocol") == 1


# -- the log


def test_a_batch_like_any_other_is_not_logged(observed: Observed) -> None:
    """Never a line a frame, nor a batch."""
    observed.observer.decoded({}, 0)
    observed.observer.admitted(FakeAdmission(num=3), 1)
    publish(observed, 3)
    observed.observer.turned(1, [1, 1, 1, 1, 1])
    assert observed.lines.stream.getvalue() == ""


def test_repeats_are_logged_once_in_ten_seconds_and_none_is_forgotten(observed: Observed) -> None:
    """The first is logged at once, the next lines add up to what was counted."""
    for at_ns in range(0, 2 * LINE_INTERVAL_NS + 1, LINE_INTERVAL_NS // 4):
        observed.clock.now_ns = at_ns
        observed.observer.admitted(FakeAdmission(num_missed=10), 1)
    lines = observed.lines.of("frames_missed")
    assert [(line["num"], line.get("num_suppressed")) for line in lines] == [(10, None), (40, 3), (40, 3)]


def test_reasons_are_limited_each_by_itself(observed: Observed) -> None:
    """A flood of one reason does not hide another."""
    for _ in range(100):
        observed.observer.decoded({Refusal.UNSUPPORTED: 1}, 0)
    observed.observer.decoded({Refusal.BAD_SOURCE: 1}, 0)
    assert [line["reason"] for line in observed.lines.of("frames_refused")] == ["unsupported", "bad_source"]


def test_what_was_suppressed_is_logged_when_the_loop_is_idle(observed: Observed) -> None:
    """The end of a burst is told without another one, when its time has come and not before."""
    observed.observer.decoded({}, 1)
    observed.observer.decoded({}, 99)
    observed.observer.idle()
    assert len(observed.lines.of("frames_refused")) == 1
    observed.clock.now_ns += LINE_INTERVAL_NS
    observed.observer.idle()
    observed.observer.idle()
    assert [line["num"] for line in observed.lines.of("frames_refused")] == [1, 99]


def test_the_end_leaves_nothing_untold(observed: Observed) -> None:
    """Stopping logs what was suppressed, due or not, before it says that it stopped."""
    observed.observer.decoded({}, 1)
    observed.observer.decoded({}, 99)
    observed.observer.stopped()
    assert [line["num"] for line in observed.lines.of("frames_refused")] == [1, 99]
    assert observed.lines.of("stopped")[0]["num_received"] == 100


def test_everyday_refusals_are_no_warnings(observed: Observed) -> None:
    """A duplicate is information, a message that cannot be read is a warning."""
    observed.observer.decoded({Refusal.DUPLICATE: 1, Refusal.MALFORMED: 1}, 0)
    levels = {line["reason"]: line["level"] for line in observed.lines.of("frames_refused")}
    assert levels == {"duplicate": "info", "malformed": "warning"}


def test_a_fault_of_our_own_is_logged_with_its_traceback(observed: Observed) -> None:
    """Whoever reads the log sees where it happened."""
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError as error:
        observed.observer.failed(error)
    (line,) = observed.lines.of("failed")
    assert line["level"] == "error"
    assert "test_observe.py" in line["exception"]
    assert "ZeroDivisionError: on purpose" in line["exception"]


# -- readiness


def test_readiness_follows_the_life_of_the_daemon(observed: Observed) -> None:
    """It says what is still missing, then that it is ready, then why not any more."""
    observer = observed.observer
    seen = [observer.status()]
    observer.starting()
    seen.append(observer.status())
    observed.load_model()
    seen.append(observer.status())
    observer.ready(["tcp://127.0.0.1:5555"], "tcp://127.0.0.1:5556")
    seen.append(observer.status())
    observer.stopping("SIGTERM")
    seen.append(observer.status())
    assert [(status.is_ready, status.reason) for status in seen] == [
        (False, "starting"),
        (False, "loading the model"),
        (False, "opening the sockets"),
        (True, "ready"),
        (False, "stopping: SIGTERM"),
    ]


def test_the_status_says_what_is_running(observed: Observed) -> None:
    """Version, model, endpoints, streams and how long it has been up."""
    observer = observed.observer
    observed.load_model()
    observer.ready(["tcp://127.0.0.1:5555", "ipc:///run/frames"], "tcp://127.0.0.1:5556")
    observer.admitted(FakeAdmission(num=1234), 5)
    observed.clock.now_ns += (86_400 + 3661) * 10**9
    facts = observer.status().facts
    assert facts["input"] == "tcp://127.0.0.1:5555, ipc:///run/frames"
    assert facts["output"] == "tcp://127.0.0.1:5556"
    assert facts["streams"] == "5 of at most 16"
    assert facts["frames received"] == "1,234"
    assert facts["up for"] == "1 d 01:01:01"
    assert "builtin (00000000000000ff)" in facts["model"]


# -- what a scrape exposes


def test_the_table_of_metrics_is_what_a_scrape_exposes() -> None:
    """configs/README.md names every metric with its type, labels, their values if foretell sets them, and meaning."""
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `foretell_")]
    table = {}
    for row in rows:
        name, kind, labels, meaning = (cell.strip() for cell in row.strip("|").split("|"))
        words = set(labels.replace(":", ",").replace("`", "").split(", ")) - {""}
        table[name.strip("`")] = (kind, words, meaning)
    exposed = {}
    for family in text_string_to_metric_families(Observed.of_everything().scrape()):
        if family.name.startswith("foretell_"):
            pairs = {pair for sample in family.samples for pair in sample.labels.items() if pair[0] != "le"}
            said = {label for label, _ in pairs}
            if not family.name.endswith("_info"):
                said |= {value for label, value in pairs if label not in OPEN_LABELS}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            exposed[name] = (family.type, said, family.documentation)
    assert table == exposed


def test_the_process_metrics_named_are_those_exposed(observed: Observed) -> None:
    """configs/README.md names what is exposed of the process, and nothing else."""
    sentence = README.read_text().partition("Beside these, of the process:")[2].partition(".\n")[0]
    named = {name.strip(" \n`") for name in sentence.split(",")}
    families = text_string_to_metric_families(observed.scrape())
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if not family.name.startswith("foretell_")
    }
    assert named == exposed


def test_promtool_finds_nothing_to_object_to() -> None:
    """Names, units, types and help are as Prometheus wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (it comes with Prometheus)")
    text = Observed.of_everything().scrape()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("num_frames", "limit_us"), [(1, 100), (4096, 800)])
def test_telling_costs_little(observed: Observed, num_frames: int, limit_us: float) -> None:
    """Ten times what it costs on a quiet machine, so that only another order of magnitude shows."""
    timestamps = np.random.default_rng(0).integers(1, 2**40, num_frames)
    admission = FakeAdmission(num=num_frames)
    best_ns = 10**12
    for _ in range(50):
        began_ns = time.perf_counter_ns()
        observed.observer.admitted(admission, 1)
        observed.observer.published(timestamps, 1_000_000)
        observed.observer.turned(1_000_000, [1, 1, 1, 1, 1])
        best_ns = min(best_ns, time.perf_counter_ns() - began_ns)
    assert best_ns / 1000 < limit_us
