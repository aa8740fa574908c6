"""What is settled before the loop turns: memory, threads, and whether settings and model go together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foretell.arena import bytes_per_row
from foretell.calibrate import CalibratorSpec
from foretell.config import Config, ForecastConfig, ModelConfig, StreamsConfig
from foretell.errors import ConfigError
from foretell.run import (
    as_set,
    check_together,
    choose_num_threads,
    count_rows,
    describe_streams,
    find_memory_bytes,
)
from small_models import calibrated, independent_spec, joint_spec, model_of, normalized_joint_spec


def test_rows_are_reserved_for_all_streams_that_are_allowed() -> None:
    """A joint model needs a row a stream, an independent one a row for each of the most channels."""
    config = Config(streams=StreamsConfig(capacity=10, max_channels=4))
    assert count_rows(config, model_of(joint_spec())) == 10
    assert count_rows(config, model_of(independent_spec())) == 40


def test_rows_are_bounded_by_memory() -> None:
    """No more rows are reserved than streams.max_state_bytes holds."""
    model = model_of(joint_spec())
    config = Config(streams=StreamsConfig(max_state_bytes=3 * bytes_per_row(model) + 1))
    assert count_rows(config, model) == 3


def test_memory_for_less_than_one_state_is_a_mistake() -> None:
    """Where not one state fits, the daemon does not start, and says how many bytes one takes."""
    model = model_of(joint_spec())
    with pytest.raises(ConfigError, match=rf"max_state_bytes = 7.*{bytes_per_row(model)} bytes"):
        count_rows(Config(streams=StreamsConfig(max_state_bytes=7)), model)


def test_bytes_per_row_are_those_of_the_arena() -> None:
    """The bytes that a row is said to take are what its arrays take."""
    from foretell.arena import Arena

    for spec in (joint_spec(5, hidden=7, layers=2), independent_spec(), calibrated(normalized_joint_spec())):
        model = model_of(spec)
        arena = Arena(model, 3)
        arrays = (arena.state, arena.guess, arena.normalizer, arena.calibrator)
        assert sum(array.nbytes for array in arrays if array is not None) == 3 * bytes_per_row(model)


def test_settings_override_what_a_model_remembers() -> None:
    """A half-life that is set replaces the model's, one that is 0 leaves it as it is."""
    model = model_of(calibrated(independent_spec()))
    spec = as_set(model, ForecastConfig(habit_half_life_frames=50.0)).spec.calibrator
    assert spec == CalibratorSpec(habit_half_life=50.0)


def test_calibration_can_be_switched_off() -> None:
    """With forecast.calibrate = false the model's own words are published."""
    model = model_of(calibrated(independent_spec()))
    assert as_set(model, ForecastConfig(calibrate=False)).spec == independent_spec()


def test_a_model_without_calibration_is_left_alone() -> None:
    """Settings calibrate no model whose file does not ask for it, such as a converted one."""
    model = model_of(joint_spec())
    assert as_set(model, ForecastConfig(trust_half_life_frames=50.0)) is model


def test_a_control_group_lowers_the_memory(tmp_path: Path) -> None:
    """The least limit from the process's own control group up to the root is what there is."""
    inner = tmp_path / "system.slice" / "foretell.service"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (tmp_path / "system.slice" / "memory.max").write_text("1000000\n")
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/foretell.service\n")
    assert find_memory_bytes(cgroup, tmp_path) == 1_000_000


def test_without_control_groups_there_is_the_machine(tmp_path: Path) -> None:
    """Where nothing limits the process, it has the machine's memory."""
    assert find_memory_bytes(tmp_path / "none", tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )


def test_a_horizon_needs_outputs_that_are_inputs() -> None:
    """A model that cannot go on from its own forecast has a horizon of 1."""
    config = Config(forecast=ForecastConfig(horizon=2))
    check_together(config, model_of(joint_spec(3)))
    with pytest.raises(ConfigError, match=r"forecast\.horizon = 2"):
        check_together(config, model_of(joint_spec(3, 2)))


def test_a_joint_model_must_fit_the_widest_frame() -> None:
    """A model of more channels than a frame may have could never be given one."""
    with pytest.raises(ConfigError, match=r"streams\.max_channels = 2"):
        check_together(Config(streams=StreamsConfig(max_channels=2)), model_of(joint_spec(3)))


def test_threads_are_as_set_or_chosen_by_size() -> None:
    """Small models are stepped by one thread unless the settings say otherwise."""
    assert choose_num_threads(Config(), model_of(joint_spec(hidden=64))) == 1
    assert choose_num_threads(Config(), model_of(joint_spec(hidden=128))) == os.cpu_count()
    assert choose_num_threads(Config(model=ModelConfig(threads=3)), model_of(joint_spec())) == 3


def test_admission_is_told_what_the_model_takes() -> None:
    """A joint model fixes the channels, an independent one takes any."""
    assert describe_streams(model_of(joint_spec(3, 2)), 9).num_channels == 3
    assert not describe_streams(model_of(joint_spec(3, 2)), 9).can_fill
    assert describe_streams(model_of(independent_spec()), 9).num_channels is None
