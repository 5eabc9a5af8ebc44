"""`sonolite keys`: the signing key of bundles, and the trusted keys."""

import re
from pathlib import Path
from typing import Annotated

import typer

from devices import BadInput
from edge_runtime.bundle.manifest import NAME
from edge_runtime.bundle.signing import SIGNING_KEY, fingerprint, new_key
from edge_runtime.bundle.trust import read_trusted, trusted_folder
from edge_runtime.files import configuration_folder
from edge_runtime.text import say

keys = typer.Typer(help="Make a signing key for bundles, and list the trusted keys.")


@keys.command("new")
def new_keys(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file for the signing key, such as signing.pem; without it your own."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The name of the key where it is trusted, such as own.")
    ] = "own",
) -> None:
    """Make a signing key, and trust it on this machine.

    Copy the public key, whose file is printed, into the folder of trusted keys of each device.

    Example: sonolite keys new
    """
    if not re.fullmatch(NAME, name):
        raise BadInput(f"--name {name}: letters, digits, blanks, and _ . - make a key's name")
    private = out or configuration_folder() / SIGNING_KEY
    public = trusted_folder() / f"{name}.pem"
    mark = new_key(private, public)
    say(f"{private}: the signing key {mark}; keep it secret")
    say(f"{public}: the public key, trusted here; devices need a copy")


@keys.command("list")
def list_keys() -> None:
    """List the keys that this machine trusts; exit 2 where a file in the folder is no key.

    Example: sonolite keys list
    """
    folder = trusted_folder()
    trusted = read_trusted(folder)
    for key, name in trusted.keys.items():
        print(f"{fingerprint(key)}  {folder / name}.pem")
    if trusted.refused:
        raise BadInput("; ".join(trusted.refused))
