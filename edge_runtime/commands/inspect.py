"""`sonolite inspect`: the contents of a bundle, the signer, and the figures of the gate."""

import json
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from devices.schema_io import plain
from edge_runtime.bundle.archive import CARD, Bundle, open_bundle
from edge_runtime.bundle.gate import Gate, read_gate, read_locator_gate, rows
from edge_runtime.bundle.manifest import LocatorStage
from edge_runtime.bundle.signing import fingerprint
from edge_runtime.commands.options import BundleArgument, JsonOption, trusted_keys
from edge_runtime.text import printable, table_cell


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Check a bundle from end to end, and show the signer, the figures and the card.

    Example: sonolite inspect nodule.sonolite
    """
    from rich.markdown import Markdown  # here: the Markdown parser is only needed by this command

    opened = open_bundle(bundle)
    name = _signer(opened)
    gate = read_gate(opened)
    if as_json:
        key = None if opened.signature is None else fingerprint(opened.signature.key)
        signed = {"key": key, "trusted_as": name}
        manifest = plain(opened.manifest)
        print(json.dumps({"signed": signed, "manifest": manifest, "gate": asdict(gate)}, indent=2))
        return
    out = Console()
    out.print(f"{opened.id}: every size and hash is as the manifest says", highlight=False)
    if opened.signature is None:
        out.print("not signed: no device runs it")
    else:
        trust = f"{name}, which is trusted here" if name else "which is not trusted here"
        out.print(f"signed by the key {fingerprint(opened.signature.key)}, {trust}")
    out.print(_variants(opened, gate))
    if opened.manifest.locator is not None:
        out.print("The locator:")
        out.print(_locator_variants(opened, opened.manifest.locator))
    out.print(Markdown(printable(opened.read(CARD).decode("utf-8", "replace"))))


def _variants(bundle: Bundle, gate: Gate) -> Table:
    """Size, operators and figures of each variant, also of those that the gate refused."""
    held = bundle.manifest.classifier.variants
    variants = [comparison.variant for comparison in gate.variants]
    sizes = {name: f"{bundle.manifest.members[held[name]].size:,}" for name in held}
    kinds = {name: f"{len(counts)} kinds" for name, counts in gate.operators.items()}
    table = Table("", box=SIMPLE_HEAD)
    for variant in variants:
        table.add_column(variant, justify="right")
    for name, cells in {
        "bytes": [sizes.get(variant, "") for variant in variants],
        "operators": [kinds.get(variant, "") for variant in variants],
        **rows(gate.variants),
        "in the bundle": ["yes" if variant in held else "no" for variant in variants],
    }.items():
        table.add_row(table_cell(name), *map(table_cell, cells))
    return table


def _locator_variants(bundle: Bundle, stage: LocatorStage) -> Table:
    """Size and figures of each variant of the locator, also of those that the gate refused."""
    comparisons = read_locator_gate(bundle).variants
    table = Table("", box=SIMPLE_HEAD)
    for comparison in comparisons:
        table.add_column(comparison.variant, justify="right")
    held, members = stage.variants, bundle.manifest.members
    sizes = [
        f"{members[held[each.variant]].size:,}" if each.variant in held else ""
        for each in comparisons
    ]
    for name, cells in {"bytes": sizes, **rows(comparisons)}.items():
        table.add_row(table_cell(name), *map(table_cell, cells))
    return table


def _signer(bundle: Bundle) -> str | None:
    """The name of the key that signed a bundle; None where the key is not trusted here."""
    key_names = trusted_keys()
    return None if bundle.signature is None else key_names.get(bundle.signature.key)
