"""`sonolite device`: deployed devices; `drift` and `exams` have modules of their own."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from devices import CheckFailed
from edge_runtime.commands.deploy import (
    ForceOption,
    RootOption,
    SshOption,
    TargetArgument,
    WaitOption,
)
from edge_runtime.commands.device_drift import device_drift
from edge_runtime.commands.device_exams import device_exams
from edge_runtime.commands.links import say_link_notes
from edge_runtime.commands.outcomes import (
    DEVICE_FAILED,
    AnswersJsonOption,
    say_errors,
    show_outcomes,
)
from edge_runtime.deploy.fleet import FleetDevice, named_devices, on_every_device, roll_out
from edge_runtime.deploy.installed import DeployedDevice, connect
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.text import printable, say

device = typer.Typer(
    help="Look after deployed devices: status, log, live view, exams, drift, roll-back."
)
device.command("drift")(device_drift)
device.command("exams")(device_exams)


def _on(do: Callable[[DeployedDevice], dict[str, Any]]) -> Callable[[FleetDevice], dict[str, Any]]:
    """Makes a function that connects to a device and calls `do` for it."""

    def connected(member: FleetDevice) -> dict[str, Any]:
        with connect(member) as far:
            return do(far)

    return connected


def _show(outcomes: list[dict[str, Any]], as_json: bool) -> None:
    """Shows the answers. Raises CheckFailed where a device failed."""
    show_outcomes(outcomes, as_json)
    if any("error" in outcome for outcome in outcomes):
        raise CheckFailed(DEVICE_FAILED)


@device.command("status")
def device_status(
    target: TargetArgument,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    as_json: AnswersJsonOption = False,
) -> None:
    """Show which release each device runs, and in which state.

    Example: sonolite device status pi@bed-1
    """
    ask = _on(lambda far: far.summary(everything=as_json))
    answers = list(on_every_device(named_devices(target, root, ssh), ask))
    if not as_json:
        for answer in answers:
            answer.pop("outcome", None)  # of a device that failed: its error says more
    _show(answers, as_json)


@device.command("view")
def device_view(
    target: TargetArgument,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="Show the link of an operator, who also marks nodules and keeps exams.",
        ),
    ] = False,
    as_json: AnswersJsonOption = False,
) -> None:
    """Show the link to the live view of a device; who has the link may watch.

    With `--operator` who has the link may also mark nodules and keep exams.

    Example: sonolite device view pi@bed-1

    Example: sonolite device view pi@bed-1 --operator
    """
    members = named_devices(target, root, ssh)
    answers = list(on_every_device(members, _on(lambda far: far.view(operator))))
    if as_json:
        _show(answers, as_json)
        return
    from edge_runtime.release.address import is_loopback  # here: few commands have a link

    for member, answer in zip(members, answers, strict=True):
        if "error" in answer:
            continue
        link = answer["link"]
        print(link if len(members) == 1 else f"{member.address}  {link}")
        say_link_notes(link, answer["fingerprint"])
        place = urlsplit(link)
        if is_loopback(place.hostname or ""):
            options = f"{member.ssh} -L {place.port}:{place.netloc}".strip()
            tunnel = f"ssh {options} {member.address}"
            say(f"note: the link is for the device itself; to open it here, first {tunnel}")
    say_errors(answers)


@device.command("rollback")
def device_rollback(
    target: TargetArgument,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    wait: WaitOption = 30.0,
    force: ForceOption = False,
    as_json: AnswersJsonOption = False,
) -> None:
    """Go back to the release before this one, at once and without a trial.

    Example: sonolite device rollback pi@bed-1
    """
    back = _on(lambda far: far.rollback(wait, force))
    _show(list(roll_out(named_devices(target, root, ssh), back)), as_json)


@device.command("logs")
def device_logs(
    target: TargetArgument,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    lines: Annotated[
        int, typer.Option(min=1, max=1000, help="How many of the newest lines to show, such as 50.")
    ] = 50,
    switches: Annotated[
        bool,
        typer.Option("--switches", help="Show the log of releases, which is kept over reboots."),
    ] = False,
) -> None:
    """Show the log of the service of a device, as JSON lines without patient data.

    Example: sonolite device logs pi@bed-1
    """
    members = named_devices(target, root, ssh)
    answers = list(on_every_device(members, _on(lambda far: {"log": far.logs(lines, switches)})))
    for answer in answers:
        if "error" not in answer:
            if len(members) > 1:
                print(answer["device"])
            print(printable(answer["log"]), end="")
    say_errors(answers)


@device.command("doctor")
def device_doctor(
    target: TargetArgument,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    as_json: AnswersJsonOption = False,
) -> None:
    """Show which sources and backends a device can use, and why not the others.

    Example: sonolite device doctor pi@bed-1
    """
    ask = _on(lambda far: {"findings": far.doctor()})
    answers = list(on_every_device(named_devices(target, root, ssh), ask))
    if as_json:
        _show(answers, as_json)
        return
    for answer in answers:
        if "error" not in answer:
            print(answer["device"])
            show_outcomes(answer["findings"], as_json=False)
    say_errors(answers)
