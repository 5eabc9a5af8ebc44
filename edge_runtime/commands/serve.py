"""`sonolite serve` and `release check`: what a device's supervisor and its tool start."""

from pathlib import Path
from typing import Annotated

import typer

from devices.boards import read_board
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.trust import read_trusted
from edge_runtime.commands.options import stopped_by_signals
from edge_runtime.models.backends import FallbackChain
from edge_runtime.release.layout import TRUSTED, Layout
from edge_runtime.service.service import device_versions
from edge_runtime.service.service import run_service as run_release

RootArgument = Annotated[Path, typer.Argument(help="Where the device keeps its releases.")]

release = typer.Typer(help="What a device asks of a release that it was sent.")


def serve(
    root: RootArgument, name: Annotated[str, typer.Argument(help="The release's name.")]
) -> None:
    """Run a release as the device's service does; `config.toml` says on what.

    Example: sonolite serve /opt/sonolite 0a1b2c3d4e5f
    """
    with stopped_by_signals() as stop:
        run_release(Layout(root), name, stop)


@release.command("check")
def check_release(
    bundle: Annotated[Path, typer.Argument(help="The bundle as it was sent.")],
    root: RootArgument,
    board: Annotated[str, typer.Option(help="Whose backends are tried; see docs/boards.md.")] = "",
) -> None:
    """Hold a bundle against this device's keys, its newest versions, and the golden frames.

    Example: sonolite release check nodule.sonolite /opt/sonolite
    """
    layout = Layout(root)
    opened = open_trusted(bundle, read_trusted(root / TRUSTED).keys, device_versions(layout))
    chain = FallbackChain(
        opened, opened.manifest.classifier, board=read_board(board) if board else None
    )
    print(opened.id, chain.opened().variant)


@release.callback()
def _group() -> None:
    """Keeps `check_release` a word of its own, although it is the only one."""
