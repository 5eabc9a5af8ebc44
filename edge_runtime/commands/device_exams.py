"""`sonolite device exams`: the exams that devices keep, and copies of them on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from devices import BadInput
from edge_runtime.commands.deploy import RootOption, SshOption, TargetArgument
from edge_runtime.commands.outcomes import AnswersJsonOption, say_errors, show_outcomes
from edge_runtime.deploy.fleet import FleetDevice, named_devices, on_every_device
from edge_runtime.deploy.installed import DeployedDevice, connect
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.text import printable, say


def device_exams(
    target: TargetArgument,
    export: Annotated[
        Path | None,
        typer.Option(help="Copy the exams into this folder, such as ward-3; what is there stays."),
    ] = None,
    exam: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="The number of an exam to copy; repeat it. Without it all that have ended."
        ),
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Leave out the identity and the names of files.")
    ] = False,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    as_json: AnswersJsonOption = False,
) -> None:
    """List the exams that a device keeps, or copy them to this machine.

    Example: sonolite device exams pi@bed-1

    Example: sonolite device exams pi@bed-1 --export ward-3 --anonymous
    """
    if export is None and (exam or anonymous):
        raise BadInput("--exam and --anonymous need --export")
    members = named_devices(target, root, ssh)
    if export is not None:
        try:
            export.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{export}: cannot be made: {error.strerror}") from error

    def ask(member: FleetDevice) -> dict[str, Any]:
        with connect(member) as device:
            if export is None:
                return {"exams": device.exams()}
            place = export if len(members) == 1 else export / member.address
            place.mkdir(mode=0o700, exist_ok=True)
            return _copy(device, place, exam or [], anonymous)

    answers = list(on_every_device(members, ask))
    if as_json:
        plain = [
            answer | {"exams": [asdict(each) for each in answer.get("exams", ())]}
            for answer in answers
        ]
        print(json.dumps(plain, indent=2))
    elif export is None:
        _show_exams(answers)
    else:
        for answer in answers:
            for line in answer.get("saved", ()):
                say(printable(f"saved {line}"))
    say_errors(answers)


def _copy(
    device: DeployedDevice, place: Path, numbers: list[int], anonymous: bool
) -> dict[str, Any]:
    """Copies exams that are not there yet; those of `numbers`, or all that have ended."""
    exams = device.exams()
    if unknown := set(numbers) - {each.id for each in exams}:
        raise BadInput(f"there is no exam {min(unknown)}")
    wanted = numbers or [each.id for each in exams if not each.running]
    saved = []
    for number in wanted:
        out = place / f"exam-{number}"
        if not out.exists():
            device.copy_exam(number, out, anonymous)
            saved.append(str(out))
    return {"saved": saved, "exams": exams}


def _show_exams(answers: list[dict[str, Any]]) -> None:
    rows = [
        ({"device": answer["device"]} if len(answers) > 1 else {}) | each.row()
        for answer in answers
        for each in answer.get("exams", ())
    ]
    if rows:
        show_outcomes(rows, as_json=False)
    else:
        say("no exams are kept")
