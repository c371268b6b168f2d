"""The real promtool: it checks files, and tests rules by series whose values are known."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.required import missing

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "headrace-rules.yaml"
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'


class Case(NamedTuple):
    """Series by name and labels with their values each minute, in promtool's notation; what fires in which minute."""

    series: Mapping[str, str]
    firing: Mapping[int, Sequence[str]]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    program = shutil.which("promtool") or missing("promtool is missing: Debian's package prometheus has it")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def assert_fires(folder: Path, cases: Sequence[Case]) -> None:
    """Raise AssertionError with promtool's words unless in each case exactly the named alerts fire."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [_test(case) for case in cases],
    }
    file = folder / "test.json"  # JSON is YAML
    file.write_text(json.dumps(document))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _test(case: Case) -> Mapping[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
            }
            for minute, names in case.firing.items()
        ],
    }
