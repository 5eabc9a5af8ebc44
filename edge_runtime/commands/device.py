"""`sonolite device`: how deployed devices do, and back to the release before."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from devices import BadInput, CheckFailed
from edge_runtime.commands.deploy import ForceOption, RootOption, SshOption, Target, WaitOption
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.deploy.fleet import Member, everywhere, read_fleet, roll_out
from edge_runtime.deploy.installed import Installed
from edge_runtime.deploy.plan import ROOT
from edge_runtime.deploy.ssh import Device
from edge_runtime.text import printable

device = typer.Typer(help="How deployed devices do, and back to the release before.")
Json = Annotated[bool, typer.Option("--json", help="The answers to stdout as JSON.")]


def _members(target: str, root: str, ssh: str) -> tuple[Member, ...]:
    if target.endswith(".toml"):
        return read_fleet(Path(target))
    return (Member(address=target, root=root, ssh=ssh),)


def _on(do: Callable[[Installed], dict[str, Any]]) -> Callable[[Member], dict[str, Any]]:
    """Connects, and does it there."""

    def connected(member: Member) -> dict[str, Any]:
        with Device(member.address, member.ssh) as far:
            return do(Installed(far, member.root))

    return connected


def _show(outcomes: list[dict[str, Any]], as_json: bool) -> None:
    """Shows the answers; raises where a device gave none, as itself where it is the only one."""
    if len(outcomes) == 1 and "error" in outcomes[0]:
        raise BadInput(f"{outcomes[0]['device']}: {outcomes[0]['error']}")
    show_outcomes(outcomes, as_json)
    if any("error" in outcome for outcome in outcomes):
        raise CheckFailed("not every device did as it should; see above")


@device.command("status")
def status(
    target: Target, root: RootOption = ROOT, ssh: SshOption = "", as_json: Json = False
) -> None:
    """Say which release each device runs, and how it does.

    Example: sonolite device status pi@bed-1
    """
    ask = _on(lambda far: far.summary(everything=as_json))
    _show(list(everywhere(_members(target, root, ssh), ask)), as_json)


@device.command("rollback")
def rollback(
    target: Target,
    root: RootOption = ROOT,
    ssh: SshOption = "",
    wait: WaitOption = 30.0,
    force: ForceOption = False,
    as_json: Json = False,
) -> None:
    """Go back to the release before, at once and without a trial.

    Example: sonolite device rollback pi@bed-1
    """
    back = _on(lambda far: far.rollback(wait, force))
    _show(list(roll_out(_members(target, root, ssh), back)), as_json)


@device.command("logs")
def logs(
    target: Target,
    root: RootOption = ROOT,
    ssh: SshOption = "",
    lines: Annotated[int, typer.Option(min=1, max=1000, help="So many of the newest.")] = 50,
    switches: Annotated[
        bool, typer.Option("--switches", help="The log of releases alone, kept over reboots.")
    ] = False,
) -> None:
    """Show what the service of a device said, as JSON lines; no patient's data is in them.

    Example: sonolite device logs pi@bed-1
    """
    for member in _members(target, root, ssh):
        with Device(member.address, member.ssh) as far:
            print(printable(Installed(far, member.root).logs(lines, switches)), end="")


@device.command("doctor")
def doctor(
    target: Target, root: RootOption = ROOT, ssh: SshOption = "", as_json: Json = False
) -> None:
    """Let a device say what it can capture with and compute on, and why not.

    Example: sonolite device doctor pi@bed-1
    """
    answers = list(
        everywhere(_members(target, root, ssh), _on(lambda far: {"findings": far.doctor()}))
    )
    if as_json or any("error" in answer for answer in answers):
        _show(answers, as_json)
        return
    for answer in answers:
        print(answer["device"])
        show_outcomes(answer["findings"], as_json=False)
