"""The steps of a deployment, in order.

Each step says what it does, and does nothing twice. Any step may be cut short: the same deployment
again goes on from there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from devices import BadInput
from edge_runtime.bundle.signing import public_pem
from edge_runtime.deploy.plan import DeploymentPlan, ask_status, content_sha256
from edge_runtime.deploy.probe import KIOSK_UNIT_PATH, UNIT_PATH
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.release.config import write_config
from edge_runtime.release.layout import TOOL, TRUSTED

ProgressMeter = Callable[[str, int], Callable[[int], object]]
"""Takes a label and the number of bytes to send; returns a function to call with each chunk."""

PREPARE_SCRIPT = """\
set -eu
if [ "$3" = service ]; then
    getent group sonolite > /dev/null || groupadd --system sonolite
    id sonolite > /dev/null 2>&1 || useradd --system --gid sonolite --no-create-home \\
        --home-dir /nonexistent --shell /usr/sbin/nologin sonolite
    group=sonolite
    mode=2755
else
    group=$(id -g "$2")
    mode=0755
fi
mkdir -p "$1"
chown -h "$2:$group" "$1"
chmod g-s,o-t "$1"
chmod "$mode" "$1"
"""
PUT_SCRIPT = """\
set -eu
umask 022
rm -f "$1.sent"
set -C
cat > "$1.sent"
echo "$2  $1.sent" | sha256sum -c --status
sync "$1.sent"
mv "$1.sent" "$1"
"""
UNIT_SCRIPT = """\
set -eu
umask 022
rm -f "$1.sent"
set -C
cat > "$1.sent"
mv "$1.sent" "$1"
systemctl daemon-reload
systemctl enable --quiet sonolite
"""
RESTART_SCRIPT = """\
systemctl reset-failed sonolite 2> /dev/null
systemctl restart --no-block sonolite
"""
"""systemd starts no unit that has just ended too often, unless that is forgotten."""
KIOSK_SCRIPT = """\
set -eu
umask 022
rm -f "$1.sent"
set -C
cat > "$1.sent"
missing=
for package in cage xwayland chromium seatd fonts-dejavu-core; do
    dpkg-query --show --showformat '${db:Status-Status}' "$package" 2> /dev/null |
        grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get --quiet update < /dev/null >&2
    apt-get --quiet --yes --no-install-recommends install $missing < /dev/null >&2
fi
id sonolite-kiosk > /dev/null 2>&1 || useradd --system --user-group --no-create-home \\
    --home-dir /nonexistent --shell /usr/sbin/nologin sonolite-kiosk
mv "$1.sent" "$1"
systemctl daemon-reload
systemctl enable --quiet sonolite-kiosk
systemctl restart --no-block sonolite-kiosk
"""
NO_KIOSK_SCRIPT = """\
set -eu
systemctl disable --quiet --now sonolite-kiosk
rm -f "$1"
systemctl daemon-reload
if systemctl is-enabled --quiet getty@tty1; then systemctl start --no-block getty@tty1; fi
"""
"""The kiosk took the place of the login on the screen; see Conflicts= of its unit."""


@dataclass(frozen=True)
class DeploymentStep:
    """One step of a deployment."""

    name: str
    says: Callable[[DeploymentPlan], str]
    needed: Callable[[DeploymentPlan], bool]
    do: Callable[[DeploymentPlan, SshDevice, ProgressMeter], None]
    as_root: Callable[[DeploymentPlan], bool] = lambda _: False


def _must_prepare(plan: DeploymentPlan) -> bool:
    unknown = plan.facts.systemd and plan.facts.unit is None
    return unknown or not (plan.facts.exists and plan.facts.writable and plan.facts.own)


def _prepare_as_root(plan: DeploymentPlan) -> bool:
    return plan.facts.systemd or not plan.facts.writable


def _prepare(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    kind = "service" if plan.facts.systemd else "plain"
    words = ["sh", "-c", PREPARE_SCRIPT, "sh", plan.request.root, plan.facts.user, kind]
    device.run(plan.sudo(*words) if _prepare_as_root(plan) else words)


def _new_tool(plan: DeploymentPlan) -> bool:
    return plan.facts.tool != content_sha256(plan.tool) or not plan.facts.own


def _tool(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    _put(plan, device, TOOL, plan.tool)
    device.run(plan.words("prepare"))


def _new_environment(plan: DeploymentPlan) -> bool:
    return plan.environment.name not in plan.status["environments"]


def _wheels(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:
    wheels = plan.environment.wheels
    _send(plan, device, {wheel.sha256: wheel.path for wheel in wheels}, "wheels", meter)


def _environment(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    wheels = {wheel.path.name: wheel.sha256 for wheel in plan.environment.wheels}
    device.run(plan.words("environment", plan.environment.name), json.dumps(wheels).encode())


def _new_release(plan: DeploymentPlan) -> bool:
    return plan.release not in plan.status["releases"]


def _bundle(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:
    _send(plan, device, {plan.digest: plan.request.bundle}, "bundle", meter)


def _trust(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    assert plan.bundle.signature is not None
    _put(plan, device, f"{TRUSTED}/{plan.key_name}", public_pem(plan.bundle.signature.key))


def _stage(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    words = (plan.digest, plan.environment.name, plan.request.board)
    device.run(plan.words("stage", *words))


def _new_unit(plan: DeploymentPlan) -> bool:
    return plan.facts.systemd and plan.facts.unit != content_sha256(plan.unit.encode())


def _unit(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    device.run(plan.sudo("sh", "-c", UNIT_SCRIPT, "sh", UNIT_PATH), plan.unit.encode())


def _kiosk_changes(plan: DeploymentPlan) -> bool:
    installed = plan.facts.kiosk
    if plan.request.kiosk is False or (installed is None and not plan.request.kiosk):
        return installed is not None
    return installed != content_sha256(plan.kiosk_unit.encode())


def _kiosk(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    gone = plan.request.kiosk is False
    script, content = (NO_KIOSK_SCRIPT, "") if gone else (KIOSK_SCRIPT, plan.kiosk_unit)
    device.run(plan.sudo("sh", "-c", script, "sh", KIOSK_UNIT_PATH), content.encode())


def _proven(plan: DeploymentPlan) -> bool:
    return bool(plan.release == plan.status["current"] == plan.status["good"])


def _must_switch(plan: DeploymentPlan) -> bool:
    return plan.new_config or not _proven(plan)


def _switch(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    request = plan.request
    force = ["--force"] if request.force else []
    config = write_config(plan.config).encode() if plan.new_config else b""
    device.run(plan.words("switch", plan.release, "--wait", f"{request.wait:g}", *force), config)


def _start(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    running = ask_status(device, plan.environment.python, plan.request.root)["running"]
    if running and not _new_unit(plan):
        return
    if plan.facts.systemd:  # a running service takes its new unit
        device.run(plan.sudo("sh", "-c", RESTART_SCRIPT))
    else:
        device.run(plan.words("start"))


def _try(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    device.run(plan.words("await", plan.release))


def _prune(plan: DeploymentPlan, device: SshDevice, meter: ProgressMeter) -> None:  # noqa: ARG001
    device.run(plan.words("prune"))


def _anything_new(plan: DeploymentPlan) -> bool:
    return _must_switch(plan) or _new_release(plan)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


DEPLOYMENT_STEPS: tuple[DeploymentStep, ...] = (
    DeploymentStep(
        "prepare",
        lambda plan: (
            f"make {plan.request.root}, owned by {plan.facts.user}"
            + (", and the user sonolite for the service" if plan.facts.systemd else "")
        ),
        _must_prepare,
        _prepare,
        _prepare_as_root,
    ),
    DeploymentStep("tool", lambda plan: f"send {TOOL}, {len(plan.tool)} bytes", _new_tool, _tool),
    DeploymentStep(
        "wheels",
        lambda plan: (
            f"send {len(plan.environment.wheels)} wheels, "
            + _megabytes(sum(wheel.size for wheel in plan.environment.wheels))
        ),
        _new_environment,
        _wheels,
    ),
    DeploymentStep(
        "environment",
        lambda plan: f"make the environment {plan.environment.name[:12]} of them, offline",
        _new_environment,
        _environment,
    ),
    DeploymentStep(
        "bundle",
        lambda plan: f"send {plan.bundle.id}, {_megabytes(plan.request.bundle.stat().st_size)}",
        _new_release,
        _bundle,
    ),
    DeploymentStep(
        "trust", lambda plan: f"trust its signer, {plan.key_name}", lambda p: p.sends_key, _trust
    ),
    DeploymentStep(
        "stage",
        lambda plan: (
            f"check its signature, version and golden frames there; release {plan.release}"
        ),
        _new_release,
        _stage,
    ),
    DeploymentStep(
        "unit",
        lambda _: f"install {UNIT_PATH}, started on boot",
        _new_unit,
        _unit,
        lambda _: True,
    ),
    DeploymentStep(
        "switch",
        lambda plan: (
            "write config.toml"
            if _proven(plan)
            else ("write config.toml and " if plan.new_config else "") + f"switch to {plan.release}"
        ),
        _must_switch,
        _switch,
    ),
    DeploymentStep(
        "start",
        lambda _: "start the service",
        lambda plan: not plan.status["running"] or _new_unit(plan),
        _start,
        lambda plan: plan.facts.systemd,
    ),
    DeploymentStep(
        "trial",
        lambda plan: (
            f"none: {plan.release} passed one; wait until it begins with the new settings"
            if _proven(plan)
            else f"try it for {plan.config.trial_seconds:g} s, until {plan.config.trial_state}; "
            "it goes back by itself where that fails"
        ),
        lambda plan: _must_switch(plan) or plan.status["trial"] == plan.release,
        _try,
    ),
    DeploymentStep(
        "kiosk",
        lambda plan: (
            f"remove {KIOSK_UNIT_PATH}"
            if plan.request.kiosk is False
            else f"install cage and chromium, and {KIOSK_UNIT_PATH}, started on boot"
        ),
        _kiosk_changes,
        _kiosk,
        lambda _: True,
    ),
    DeploymentStep(
        "prune",
        lambda _: "remove releases that nothing goes back to",
        # An older tool does not say whether there is a surplus.
        lambda plan: _anything_new(plan) or plan.status.get("surplus", False),
        _prune,
    ),
)


def needed_steps(plan: DeploymentPlan) -> list[DeploymentStep]:
    """The steps that the device still needs."""
    return [step for step in DEPLOYMENT_STEPS if step.needed(plan)]


def carry_out(
    plan: DeploymentPlan,
    device: SshDevice,
    report: Callable[[DeploymentStep], object],
    meter: ProgressMeter,
) -> dict[str, Any]:
    """Does the needed steps, and calls `report` before each; returns the outcome.

    Raises as `SshDevice.run` does: CheckFailed where the old release runs again.
    """
    todo = needed_steps(plan)
    for step in todo:
        report(step)
        step.do(plan, device, meter)
    return {
        "device": device.address,
        "release": plan.release,
        "bundle": plan.bundle.id,
        "outcome": "passed" if any(step.name == "trial" for step in todo) else "unchanged",
        "steps": [step.name for step in todo],
        "sent_bytes": device.sent,
    }


def _put(plan: DeploymentPlan, device: SshDevice, name: str, content: bytes) -> None:
    """Writes a small file below the root, whole or not at all."""
    path = str(PurePosixPath(plan.request.root) / name)
    device.run(["sh", "-c", PUT_SCRIPT, "sh", path, content_sha256(content)], content)


def _send(
    plan: DeploymentPlan,
    device: SshDevice,
    files: dict[str, Path],
    label: str,
    meter: ProgressMeter,
) -> None:
    """Sends the files, by their sha256, that the device lacks; resumes one that was broken off."""
    received = device.read(plan.words("received", *files))
    known = received if isinstance(received, dict) else {}
    if not all(type(known.get(digest)) is int for digest in files):
        raise BadInput(f"{device.address}: does not say what it has received")
    sizes = {digest: path.stat().st_size for digest, path in files.items()}
    left = {digest: sizes[digest] - known[digest] for digest in files}
    count = meter(label, sum(left.values()))
    for digest, path in files.items():
        if not 0 <= left[digest] <= sizes[digest]:
            raise BadInput(f"{path}: more of it is on the device than there is here; deploy again")
        with open(path, "rb") as file:
            file.seek(known[digest])
            device.run(
                plan.words("receive", digest, str(known[digest]), str(sizes[digest])),
                file,
                count,
            )
