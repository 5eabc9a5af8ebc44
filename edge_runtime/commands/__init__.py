"""What a device can do with nothing but the base install, one file a command."""

import typer

from edge_runtime.commands.bench import bench
from edge_runtime.commands.deploy import deploy
from edge_runtime.commands.device import device
from edge_runtime.commands.doctor import doctor
from edge_runtime.commands.inspect import inspect
from edge_runtime.commands.keys import keys
from edge_runtime.commands.run import demo, run
from edge_runtime.commands.sector import sector
from edge_runtime.commands.serve import release, serve


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the root app."""
    for command in (demo, run, sector, inspect, bench, doctor, deploy):
        app.command()(command)
    app.add_typer(keys, name="keys")
    app.add_typer(device, name="device")
    app.command(hidden=True)(serve)
    app.add_typer(release, name="release", hidden=True)
