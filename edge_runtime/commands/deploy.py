"""`sonolite deploy`: a bundle onto a device, or onto a fleet."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from devices import BadInput, CheckFailed
from edge_runtime.commands.options import BundleArgument
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.deploy.fleet import FleetDevice, read_fleet, roll_out
from edge_runtime.deploy.plan import DeploymentPlan, DeploymentRequest, make_plan
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.deploy.steps import DeploymentStep, ProgressMeter, carry_out, needed_steps
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.text import printable, say

TargetArgument = Annotated[
    str, typer.Argument(help="USER@HOST, a name of ~/.ssh/config, or fleet.toml.")
]
RootOption = Annotated[str, typer.Option(help="Where the device keeps its releases.")]
SshOption = Annotated[str, typer.Option(help='More options for ssh, as in "-p 2222 -i KEY".')]
ForceOption = Annotated[bool, typer.Option("--force", help="Even during an examination.")]
WaitOption = Annotated[
    float, typer.Option(min=0, max=3600, help="Seconds to wait for the end of an examination.")
]


def deploy(
    bundle: BundleArgument,
    target: TargetArgument,
    board: Annotated[
        str | None, typer.Option(help="What the device is; see docs/boards.md.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="What it looks at, as of `run`; needed the first time.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help="x,y,w,h of the nodule on the screen of the device.")
    ] = None,
    trial: Annotated[
        float | None, typer.Option(help="Seconds that a new release is tried; 60 at first.")
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(help="State it has to reach: LIVE, or LOST where no scanner is attached."),
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    wheels: Annotated[
        Path | None, typer.Option(help="A folder of the device's wheels, instead of the network.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the device trust this bundle's signer too.")
    ] = False,
    wait: WaitOption = 30.0,
    force: ForceOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say each action, and do none of them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The outcome to stdout.")] = False,
) -> None:
    """Put a bundle on a device over SSH, try it there, and go back where it fails.

    Example: sonolite deploy nodule.sonolite pi@bed-1 --board raspberry-pi-5 --source 0
    """
    named = {"source": source, "roi": roi, "trial_seconds": trial, "trial_state": reach}
    settings = {name: value for name, value in named.items() if value is not None}

    def deploy_to(
        member: FleetDevice, meter: ProgressMeter, report: Callable[[str], object]
    ) -> dict[str, Any]:
        if (kind := board or member.board) is None:
            raise BadInput("--board: what the device is has to be said")
        own = {"source": member.source, "roi": member.roi}
        merged = {name: value for name, value in own.items() if value is not None} | settings
        request = DeploymentRequest(bundle, kind, member.root, merged, wheels, trust, wait, force)
        with SshDevice(member.address, member.ssh) as device:
            plan = make_plan(device, request)
            if dry_run:
                return _said(plan)
            return carry_out(plan, device, lambda step: report(_line(step, plan)), meter)

    with ExitStack() as stack:
        if target.endswith(".toml"):
            members = read_fleet(Path(target))
            outcomes = list(
                roll_out(members, lambda member: deploy_to(member, _silent, lambda _: None))
            )
            show_outcomes(outcomes, as_json)
            if any("error" in outcome or outcome["outcome"] == "not begun" for outcome in outcomes):
                raise CheckFailed("the roll-out was not finished; see above")
            return
        meter = stack.enter_context(_Bars()).meter
        member = FleetDevice(address=target, root=root, ssh=ssh)
        outcome = deploy_to(member, meter, lambda line: say(line))
    if as_json:
        print(json.dumps(outcome))
    elif dry_run:
        print("\n".join(outcome["would"]) or "nothing is new: nothing would be done")
    elif outcome["outcome"] == "unchanged":
        say(f"{target}: nothing new; {outcome['bundle']} runs there")
    else:
        say(f"{target}: {outcome['bundle']} runs; {outcome['sent_bytes'] / 1e6:.1f} MB were sent")


def _said(plan: DeploymentPlan) -> dict[str, Any]:
    """What a deployment would do."""
    would = [_line(step, plan) for step in needed_steps(plan)]
    return {"outcome": "dry run", "release": plan.release, "bundle": plan.bundle.id, "would": would}


def _line(step: DeploymentStep, plan: DeploymentPlan) -> str:
    rights = " (as root)" if step.as_root(plan) else ""
    return printable(f"{step.name}{rights}: {step.says(plan)}")


def _silent(label: str, total: int) -> Callable[[int], object]:  # noqa: ARG001
    return lambda _: None


class _Bars:
    """Progress bars on a terminal; nothing elsewhere."""

    def __enter__(self) -> "_Bars":
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        console = Console(stderr=True)
        self._bars = Progress(
            *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
        )
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def meter(self, label: str, total: int) -> Callable[[int], object]:
        """Begins a bar; what it returns moves it."""
        task = self._bars.add_task(label, total=total)
        return lambda size: self._bars.advance(task, size)
