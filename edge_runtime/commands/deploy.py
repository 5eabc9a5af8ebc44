"""`sonolite deploy`: puts a bundle on a device, or on a fleet of devices."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from devices import BadInput, CheckFailed
from edge_runtime.commands.options import BundleArgument, finite
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.deploy.fleet import FleetDevice, read_fleet, roll_out
from edge_runtime.deploy.plan import DeploymentPlan, DeploymentRequest, make_plan
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.deploy.steps import DeploymentStep, ProgressMeter, carry_out, needed_steps
from edge_runtime.release.address import DEFAULT_ADDRESS, split_address
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.text import printable, say

TargetArgument = Annotated[
    str,
    typer.Argument(
        help="The device: pi@bed-1, a host of ~/.ssh/config, or a list such as fleet.toml."
    ),
]
RootOption = Annotated[str, typer.Option(help="The folder of the releases on the device.")]
SshOption = Annotated[str, typer.Option(help='More options for ssh, such as "-p 2222 -i KEY".')]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Do not wait for the end of an examination.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=3600,
        callback=finite,
        help="Seconds to wait for the end of an examination.",
    ),
]


def deploy(
    bundle: BundleArgument,
    target: TargetArgument,
    board: Annotated[
        str | None,
        typer.Option(help="The board of the device, such as raspberry-pi-5; see docs/boards.md."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="The source of the device, as for `run`, such as 0; needed the first time."
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="The nodule on the screen of the device, x,y,w,h, such as 220,90,180,150."
        ),
    ] = None,
    trial: Annotated[
        float | None,
        typer.Option(
            callback=finite, help="Seconds of the trial of a new release; 60 the first time."
        ),
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(help="The state to reach in the trial: LIVE, or LOST without a scanner."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help=f"Show the live picture on a page of the device, by default at {DEFAULT_ADDRESS}.",
        ),
    ] = None,
    no_view: Annotated[
        bool, typer.Option("--no-view", help="Show the live picture no more.")
    ] = False,
    view_tls: Annotated[
        bool | None,
        typer.Option(
            "--view-tls/--no-view-tls",
            help="Encrypt that page with a certificate that the device makes.",
        ),
    ] = None,
    kiosk: Annotated[
        bool | None,
        typer.Option(
            "--kiosk/--no-kiosk",
            help="Show that page on the device's own screen from its start on; needs Debian.",
        ),
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    wheels: Annotated[
        Path | None,
        typer.Option(help="A folder with the wheels for the device, in the place of the network."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the device trust the signer of this bundle, too.")
    ] = False,
    wait: WaitOption = 30.0,
    force: ForceOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the steps, and do none of them.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome to stdout as JSON.")
    ] = False,
) -> None:
    """Put a bundle on a device over SSH and try it there; if it fails, the old release runs again.

    Example: sonolite deploy nodule.sonolite pi@bed-1 --board raspberry-pi-5 --source 0
    """
    named = {"source": source, "roi": roi, "trial_seconds": trial, "trial_state": reach}
    settings = {name: value for name, value in named.items() if value is not None}
    view_settings = _view_settings(view, no_view, view_tls, kiosk)

    def deploy_to(
        member: FleetDevice, meter: ProgressMeter, report: Callable[[str], object]
    ) -> dict[str, Any]:
        if (kind := board or member.board) is None:
            raise BadInput(
                "--board: the board of the device is missing, such as --board raspberry-pi-5"
            )
        own = {"source": member.source, "roi": member.roi}
        merged = {name: value for name, value in own.items() if value is not None} | settings
        request = DeploymentRequest(
            bundle, kind, member.root, merged, view_settings, wheels, trust, wait, force, kiosk
        )
        with SshDevice(member.address, member.ssh) as device:
            plan = make_plan(device, request)
            if dry_run:
                return _planned(plan)
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


def _view_settings(
    view: str | None, no_view: bool, tls: bool | None, kiosk: bool | None
) -> dict[str, Any]:
    """The settings of the live view to change."""
    for option, given in {"--view": view is not None, "--view-tls": tls, "--kiosk": kiosk}.items():
        if given and no_view:
            raise BadInput(f"{option} and --no-view contradict each other")
    if view is not None and split_address(view) is None:
        raise BadInput(f"--view {view}: no address; write it like {DEFAULT_ADDRESS}")
    changes: dict[str, Any] = {} if tls is None else {"tls": tls}
    if view is not None:
        changes["address"] = view
    if no_view:
        changes["address"] = ""
    return changes


def _planned(plan: DeploymentPlan) -> dict[str, Any]:
    """The steps that a deployment would take."""
    would = [_line(step, plan) for step in needed_steps(plan)]
    return {"outcome": "dry run", "release": plan.release, "bundle": plan.bundle.id, "would": would}


def _line(step: DeploymentStep, plan: DeploymentPlan) -> str:
    rights = " (as root)" if step.as_root(plan) else ""
    return printable(f"{step.name}{rights}: {step.says(plan)}")


def _silent(label: str, total: int) -> Callable[[int], object]:  # noqa: ARG001
    return lambda _: None


class _Bars:
    """Progress bars on a terminal; elsewhere nothing is shown."""

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
        """Begins a bar, and returns the function that moves it by some bytes."""
        task = self._bars.add_task(label, total=total)
        return lambda size: self._bars.advance(task, size)
