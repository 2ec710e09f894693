"""docs/monitoring.md and its examples: rules that promtool accepts and that fire, queries of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_controller.serve.metrics.text import METRICS

from tests.conftest import lacking

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLES = DOCS / "examples" / "monitoring"
NAMES = {prefix + name for prefix, texts in METRICS.items() for name in texts}
HISTOGRAMS = {
    f"litefleet_fleet_{name}" for name in METRICS["litefleet_fleet_"] if re.match(".*latency_p|accuracy|contact", name)
}
SAMPLES = (
    (NAMES - HISTOGRAMS) | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")} | {"up"}
)
_IN_QUERY = re.compile(r"\b(?:litefleet|process)_[a-z0-9_]+|\bup\b")


def promtool(*arguments: object, **options: Any) -> str:
    if shutil.which("promtool") is None:
        lacking("promtool is missing: apt-get install prometheus")
    checked = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, **options)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((EXAMPLES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def queries() -> list[str]:
    """Return the dashboard's queries, with its variable filled in."""
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return [query.replace("$instance", ".*") for query in found]


def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", EXAMPLES / "alerts.yml")
    tests = yaml.safe_load((EXAMPLES / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    expected = [one for test in tests for one in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {one["alertname"] for one in expected if one["exp_alerts"]} == names
    assert {one["alertname"] for one in tests[0]["alert_rule_test"]} == names  # of the fleet that is well
    promtool("test", "rules", "alerts_test.yml", cwd=EXAMPLES)


def test_the_scrape_configuration_is_accepted() -> None:
    promtool("check", "config", "--syntax-only", EXAMPLES / "prometheus.yml")


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in rules()), *queries()])
def test_queries_use_metrics_that_exist(query: str) -> None:
    used = set(_IN_QUERY.findall(query))
    assert used
    assert used - SAMPLES == set()


def test_prometheus_parses_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(recorded) > 25
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "queries.yml")


def test_panels_have_places_and_numbers_of_their_own() -> None:
    panels = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


@pytest.mark.parametrize("page", ["monitoring.md", "monitoring.zh.md"])
def test_every_metric_and_alert_is_in_its_page(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in sorted(NAMES) if f"| `{name}` |" not in text] == []
    assert [
        rule["alert"] for rule in rules() if f"| `{rule['alert']}` | {rule['labels']['severity']} |" not in text
    ] == []
    assert yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]) == yaml.safe_load(
        (EXAMPLES / "prometheus.yml").read_text(encoding="utf-8")
    )
