"""`sonolite serve` and `release check`, which the supervisor and the tool of a device call."""

from pathlib import Path
from typing import Annotated

import typer

from devices.boards import read_board
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.trust import read_trusted
from edge_runtime.commands.options import stopped_by_signals
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.locator import Locator
from edge_runtime.release.layout import TRUSTED, Layout
from edge_runtime.service.service import device_versions, run_service

RootArgument = Annotated[
    Path, typer.Argument(help="The folder of the releases, such as /opt/sonolite.")
]

release = typer.Typer(help="Check a release that was sent to this device.")


def serve(
    root: RootArgument, name: Annotated[str, typer.Argument(help="The name of the release.")]
) -> None:
    """Run a release with the configuration in `config.toml`, as the service does.

    Example: sonolite serve /opt/sonolite 0a1b2c3d4e5f
    """
    with stopped_by_signals() as stop:
        run_service(Layout(root), name, stop)


@release.command("check")
def check_release(
    bundle: Annotated[Path, typer.Argument(help="The bundle that was sent.")],
    root: RootArgument,
    board: Annotated[
        str, typer.Option(help="The board whose backends are tried, such as raspberry-pi-5.")
    ] = "",
) -> None:
    """Check a bundle: trusted keys, newest versions, and golden frames.

    Example: sonolite release check nodule.sonolite /opt/sonolite
    """
    layout = Layout(root)
    opened = open_trusted(bundle, read_trusted(root / TRUSTED).keys, device_versions(layout))
    chain = FallbackChain(
        opened, opened.manifest.classifier, board=read_board(board) if board else None
    )
    variant = chain.opened().variant
    if opened.manifest.locator is not None:
        Locator(opened, opened.manifest.locator)
    print(opened.id, variant)


@release.callback()
def _group() -> None:
    """Keeps `check` as a subcommand, although it is the only one."""
