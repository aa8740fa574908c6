"""What operators deploy: the systemd unit, the scrape configuration, the alerts and the dashboard.

Alerts and queries are held against what an observer exposes, so that no metric can be renamed without them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foretell.config import load_config
from foretell.errors import ConfigError, EndpointError
from observing import Observed

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
UNIT = CONFIGS / "systemd" / "foretell.service"
ALERTS = CONFIGS / "prometheus" / "alerts.yml"
ALERT_CASES = Path(__file__).parent / "alert_cases.yml"
DASHBOARD: dict[str, Any] = json.loads((CONFIGS / "grafana" / "foretell.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def tool(name: str) -> str:
    """The path of a program that a fresh machine may lack; the test skips where it does."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path) -> None:
    """Run a command; where it fails, its output is the message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def queries() -> list[str]:
    """Every query of the dashboard, its variables filled in."""
    exprs = [target["expr"] for panel in PANELS for target in panel["targets"]]
    values = {"$__rate_interval": "5m", "$instance": ".*", "$stream": "pump", "$channel": ".*"}
    return [re.sub(r"\$\w+", lambda variable: values[variable.group()], expr) for expr in exprs]


def rendered_metrics() -> dict[str, set[str]]:
    """The names of all samples that a daemon can expose, each with its labels."""
    families = text_string_to_metric_families(Observed.of_everything().scrape())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def metrics_in(expr: str) -> set[str]:
    """The metrics of a daemon that a query names."""
    return set(re.findall(r"\b(?:foretell|process|python)_\w+", expr))


def unit_settings() -> dict[str, list[str]]:
    """Every setting of the unit's [Service] section with its values, in order."""
    section = UNIT.read_text().partition("[Service]\n")[2].partition("\n[Install]")[0]
    settings: dict[str, list[str]] = {}
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the unit, once the program it starts exists."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/foretell/bin/foretell", "/bin/true"))
    run(tool("systemd-analyze"), "verify", "--man=no", copy)


def test_the_unit_exposes_little() -> None:
    """`systemd-analyze security` rates the unit at 1.3 of 10 or better."""
    run(tool("systemd-analyze"), "security", "--offline=true", "--threshold=13", UNIT)


def test_the_unit_lets_onednn_compile() -> None:
    """Memory that is writable and executable stays allowed, without which no model steps."""
    assert "MemoryDenyWriteExecute" not in unit_settings()


def test_the_unit_does_not_restart_on_wrong_settings() -> None:
    """A start that settings prevent is not tried again; one that fails otherwise is."""
    settings = unit_settings()
    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == [str(ConfigError.exit_code)]
    assert ConfigError.exit_code != EndpointError.exit_code


def test_the_unit_checks_the_settings_that_it_starts_with() -> None:
    """The file that `check-config` reads before the start is the one that `run` is given."""
    settings = unit_settings()
    (check,), (start,) = settings["ExecStartPre"], settings["ExecStart"]
    assert check.split()[1:] == ["check-config", "%E/foretell/service.toml"]
    assert start.split()[1:] == ["run", "--config", "%E/foretell/service.toml"]
    assert (CONFIGS / "service.toml").exists()


def test_the_service_has_memory_for_its_states() -> None:
    """What the unit allows in memory is at least twice what the settings allow for states."""
    config = load_config(CONFIGS / "service.toml", [], {})
    (limit,) = unit_settings()["MemoryMax"]
    assert limit.endswith("G")
    assert 0 < config.streams.max_state_bytes * 2 <= int(limit.removesuffix("G")) * 2**30


def test_prometheus_scrapes_where_metrics_are_served() -> None:
    """The target of the scrape configuration is the default of `metrics.endpoint`."""
    endpoint = load_config(None, [], {}).metrics.endpoint
    assert (
        f'["{endpoint.removeprefix("http://")}"]' in (CONFIGS / "prometheus" / "prometheus.yml").read_text()
    )


def test_prometheus_accepts_its_files() -> None:
    """`promtool check` passes the scrape configuration and, through it, the alerts."""
    run(tool("promtool"), "check", "config", CONFIGS / "prometheus" / "prometheus.yml")


def test_alerts_fire_when_they_should_and_else_do_not() -> None:
    """Given the series of a daemon in trouble every alert fires, and given those of a healthy one none does."""
    run(tool("promtool"), "test", "rules", ALERT_CASES)


def test_every_alert_is_tried() -> None:
    """The cases of the test above name every alert."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    cases = ALERT_CASES.read_text()
    assert alerts
    assert [alert for alert in alerts if f'"{alert}"' not in cases] == []


def test_prometheus_accepts_every_query(tmp_path: Path) -> None:
    """`promtool` parses every query of the dashboard, its variables filled in as Grafana does."""
    rules = [{"record": f"query_{i}", "expr": expr} for i, expr in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(tool("promtool"), "check", "rules", "--lint=none", file)


@each_panel
def test_a_panel_shows_what_a_daemon_exposes(panel: dict[str, Any]) -> None:
    """Every query of a panel names metrics that a daemon exposes, and every legend labels that they have."""
    exposed = rendered_metrics()
    for target in panel["targets"]:
        metrics = metrics_in(target["expr"])
        assert metrics - exposed.keys() == set()
        assert metrics or 'up{job="foretell"' in target["expr"]
        labels = {"instance", "job"}.union(*(exposed[metric] for metric in metrics))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - labels == set()


def test_variables_of_the_dashboard_are_labels_of_what_a_daemon_exposes() -> None:
    """What a user can choose from is read from a label that the named metric has."""
    exposed = rendered_metrics()
    variables = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert {variable["name"] for variable in variables} == {"instance", "stream", "channel"}
    for variable in variables:
        (metric,) = metrics_in(variable["definition"])
        assert variable["definition"].endswith(f", {variable['name']})")
        assert variable["name"] in exposed[metric] | {"instance"}
        assert variable["query"]["query"] == variable["definition"]


def test_alerts_watch_what_a_daemon_exposes() -> None:
    """Every metric that the alerts name is one that a daemon exposes; their texts name histograms as a whole."""
    exposed = {name.removesuffix(suffix) for name in rendered_metrics() for suffix in ("", "_bucket")}
    metrics = metrics_in(ALERTS.read_text())
    assert "foretell_frames_received_total" in metrics
    assert metrics - exposed == set()


@each_panel
def test_a_panel_says_its_unit_and_what_it_shows(panel: dict[str, Any]) -> None:
    """A panel has a unit and a sentence of description."""
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")


@each_panel
def test_a_panel_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    """No panel is tied to the data source of one installation."""
    assert {
        source["uid"] for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))
    } == {"${datasource}"}


def test_panels_do_not_overlap() -> None:
    """Every place of the grid is taken by one panel at most, and every panel has an id of its own."""
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
