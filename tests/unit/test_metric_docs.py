"""docs/operations.md is true: every metric is in it, with its kind, its labels and its meaning, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from floxide_amqp.apps.health.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| `(floxide_\w+)` \| (\w+) \|([^|]*)\| ([^|]*) \|$", re.MULTILINE)
MENTIONED = re.compile(r"\bfloxide_\w+")


def test_the_page_lists_the_metrics_as_they_are() -> None:
    listed = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in ROW.findall(PAGE.read_text(encoding="utf-8"))
    ]
    assert listed == [(metric.name, metric.kind.value, metric.labels, metric.meaning) for metric in METRICS]


def test_the_page_mentions_no_metric_that_is_not_there() -> None:
    known = {metric.name for metric in METRICS} | {"floxide_amqp"}
    assert set(MENTIONED.findall(PAGE.read_text(encoding="utf-8"))) - known == set()
