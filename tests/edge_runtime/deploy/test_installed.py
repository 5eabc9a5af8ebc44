"""What a device answers may be of another version, or damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.deploy.installed import DeployedDevice
from tests.fuzz.targets.devices import Answered, answers


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    status: dict[str, Any] = json.loads(answers()[1])
    return status


@pytest.mark.parametrize("name", ["outcome", "previous", "state", "view", "sinks", "damaged"])
def test_a_status_without_what_another_version_tells_has_a_summary(
    name: str, status: dict[str, Any]
) -> None:
    del status[name]
    device = DeployedDevice(Answered(json.dumps(status).encode()), "/opt/sonolite")  # type: ignore[arg-type]
    summary = device.summary()
    assert summary["release"] == status["current"]
    assert not summary.get(name)
