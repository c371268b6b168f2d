"""The files of deploy/ are what the tools that read them accept: each is given to the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.balancers import haproxy_command, nginx_command
from tests.deploy.promtool import DEPLOY, promtool
from tests.support.required import missing

CHECKOUT = DEPLOY.parent
SECRETS = {"READ_TOKEN": "r" * 32, "ADMIN_TOKEN": "a" * 32, "HOOK_SECRET": "h" * 32}
UNITS = ["headrace.service", "headrace@.service"]
KUSTOMIZATIONS = ["kubernetes", "kubernetes/migrate", "kubernetes/monitoring"]


def tool(name: str) -> str:
    """Return where a program is: beside our Python, or on the PATH. Skips the test where it is missing."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or missing(f"no {name} here")


def accepted(command: Sequence[str], cwd: Path | None = None) -> str:
    """Run a tool that has to be content; what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.small.yaml"])
def test_compose_files(name: str) -> None:
    """A compose file satisfies the specification's schema, and every file that it mounts is there."""
    accepted([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / name)])
    for service in yaml.safe_load((DEPLOY / name).read_text())["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), volume


@pytest.mark.parametrize("name", ["compose.yaml", "compose.small.yaml"])
def test_compose_names_every_secret(name: str) -> None:
    """Each variable that a compose file needs is in environment.example, and one that is not set is an error."""
    text = (DEPLOY / name).read_text()
    variables = {part.split("}")[0] for part in text.split("${")[1:]}
    offered = {line.split("=")[0] for line in (DEPLOY / "environment.example").read_text().splitlines() if "=" in line}
    assert all(variable.endswith(":?see environment.example") for variable in variables)
    assert {variable.split(":")[0] for variable in variables} <= offered


def objects(folder: str) -> list[dict[str, Any]]:
    """Return what `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(accepted([tool("kubectl"), "kustomize", str(DEPLOY / folder)])))


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_kubernetes_manifests(folder: str, tmp_path: Path) -> None:
    """What kustomize makes of a folder satisfies the schemas of Kubernetes."""
    (tmp_path / "made.yaml").write_text(yaml.safe_dump_all(objects(folder)))
    command = [tool("kubernetes-validate"), "--strict", "--kubernetes-version", "1.34", str(tmp_path / "made.yaml")]
    said = accepted(command)
    assert "passed" in said or "ServiceMonitor" in said, said


def test_kubernetes_objects_belong_together() -> None:
    """Service, disruption budget and monitor select the pods; configuration and secret are those that are made."""
    made = {item["kind"]: item for item in objects("kubernetes")}
    pod = made["Deployment"]["spec"]["template"]
    assert made["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    volumes = pod["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == made["ConfigMap"]["metadata"]["name"]
    secret = yaml.safe_load((DEPLOY / "kubernetes/secret.example.yaml").read_text())
    (container,) = pod["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    (job,) = objects("kubernetes/migrate")
    (migrate,) = job["spec"]["template"]["spec"]["containers"]
    assert migrate["image"] == container["image"]
    (monitor,) = objects("kubernetes/monitoring")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"]["key"] in secret["stringData"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= made["Service"]["metadata"]["labels"].items()
    assert job["spec"]["template"]["metadata"]["labels"] != pod["metadata"]["labels"], (
        "the Service would select the job"
    )


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ("example.toml", {"HEADRACE_SERVER__HOST": "0.0.0.0"}),  # as in the image
        ("example.toml", {"HEADRACE_STORE__URL": "postgresql://headrace:p@postgres/headrace"}),
        ("kubernetes/headrace.toml", {"STORE_URL": "postgresql://headrace:p@postgres/headrace?sslmode=require"}),
    ],
)
def test_example_configurations(config: str, variables: dict[str, str]) -> None:
    """`headrace check` finds the examples valid, with the secrets from the environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "check", "--config", str(DEPLOY / config)],
        env=inherited | SECRETS | variables,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "r" * 32 not in done.stdout


def test_the_migration_needs_no_other_settings(tmp_path: Path) -> None:
    """The environment of the migrate Job is enough for `headrace migrate` in the image."""
    (job,) = objects("kubernetes/migrate")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {item["name"]: item.get("value", f"sqlite:///{tmp_path}/migrated.db") for item in container["env"]}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    accepted_by = subprocess.run(
        [sys.executable, "-m", "app.cli", *container["args"]],
        env=inherited | {"HEADRACE_SERVER__HOST": "0.0.0.0", "PYTHONPATH": str(CHECKOUT)} | given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert accepted_by.returncode == 0, accepted_by.stderr
    assert (tmp_path / "migrated.db").exists()


def test_dockerfile() -> None:
    """The Dockerfile has no fault that hadolint knows."""
    accepted([tool("hadolint"), "--failure-threshold", "warning", str(CHECKOUT / "Dockerfile")])


def test_nginx(tmp_path: Path) -> None:
    """The real nginx accepts its file."""
    said = accepted([*nginx_command(tmp_path, 8080, (8001, 8002)), "-t"])
    assert "[warn]" not in said, said


def test_haproxy(tmp_path: Path) -> None:
    """The real HAProxy accepts its file without a warning."""
    said = accepted([*haproxy_command(tmp_path, 8080, (8001, 8002)), "-c"])
    assert "WARNING" not in said, said


@pytest.mark.parametrize("name", UNITS)
def test_systemd_units(name: str, tmp_path: Path) -> None:
    """The real systemd finds nothing wrong with a unit, and its exposure is at most 2.0."""
    unit = tmp_path / name
    text = (DEPLOY / "systemd" / name).read_text()
    assert "ExecStart=/opt/headrace/bin/headrace " in text
    unit.write_text(text.replace("/opt/headrace/bin/headrace", sys.executable))  # one that is there
    said = accepted([tool("systemd-analyze"), "verify", str(unit)])
    assert said == "", said
    report = accepted([tool("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(unit)])
    assert "Overall exposure level" in report


def test_prometheus_configuration(tmp_path: Path) -> None:
    """The real promtool accepts Prometheus's configuration with the rules beside it."""
    for file in ("prometheus.yaml", "headrace-rules.yaml"):
        shutil.copy(DEPLOY / "prometheus" / file, tmp_path)
    (tmp_path / "read_token").write_text("r")
    config = tmp_path / "prometheus.yaml"
    config.write_text(config.read_text().replace("/run/secrets/read_token", str(tmp_path / "read_token")))
    done = promtool("check", "config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
