"""`sonolite convert` and `sonolite validate`, shown where the host extra is installed."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from devices import BadInput
from devices.quiet import quiet
from edge_runtime.bundle.manifest import MAX_VERSION, NAME, REFERENCE, Variant
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.bundle.trust import admitted_versions
from edge_runtime.files import refuse_existing
from train.commands import TIRADS_HELP
from train.terminal import figures_table, progress_bar, tracked

if TYPE_CHECKING:
    from nacl.signing import SigningKey

    from edge_runtime.bundle.archive import Bundle
    from edge_runtime.bundle.gate import Comparison

JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures to stdout as JSON.")]


def register(app: typer.Typer) -> None:
    """Adds this module's commands to the root app."""
    app.command()(convert)
    app.command()(validate)


@quiet()
def convert(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="The new bundle, such as nodule.sonolite.")
    ] = None,
    tflite: Annotated[
        Path | None,
        typer.Option(help="A new folder for the plain .tflite files, beside a bundle or alone."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the images of the run lie now, if they were moved.")
    ] = None,
    version: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_VERSION,
            help="The version of the bundle; raise it with each release.",
        ),
    ] = 1,
    variants: Annotated[
        str | None,
        typer.Option(
            help="The variants that the device needs, such as int8,float16; without it all that "
            "pass the gate."
        ),
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            help="A layer that int8 computes in float, or auto to find which. Not for an Edge TPU."
        ),
    ] = None,
    quantisation_aware: Annotated[
        bool,
        typer.Option(
            "--quantisation-aware",
            help="Let int8 learn on the training images to answer as float32 does; takes minutes.",
        ),
    ] = False,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="For the run of a locator: the bundle with the classifier that it joins."
        ),
    ] = None,
    quote: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another run or cross-validation of the recipe, whose figures the card shows."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The signing key, such as signing.pem; without it that of `sonolite keys new`."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Quantise a run to TFLite, compare each variant with float, and write a signed bundle.

    The exit code is 1 if no variant passes the gate, or if one that --variants names fails it.

    Examples: sonolite convert run --out nodule.sonolite

    sonolite convert run --tflite models

    sonolite convert locator --classifier nodule.sonolite --out finder.sonolite
    """
    from convert.assessment import remedies
    from convert.build import build_bundle
    from convert.variants import ConversionOptions
    from edge_runtime.bundle.archive import SUFFIX
    from train.run import read_run

    if out is None and tflite is None:
        raise BadInput("--out NAME.sonolite for a bundle, --tflite FOLDER for plain models")
    if out is not None:
        if out.suffix != SUFFIX:
            raise BadInput(f"--out {out}: a bundle's name ends in {SUFFIX}")
        if not re.fullmatch(NAME, out.stem):
            raise BadInput(f"--out {out}: letters, digits, blanks, and _ . - make a bundle's name")
        refuse_existing(out)
        refuse_existing(out.with_suffix(".html"))
    if tflite is not None:
        refuse_existing(tflite)
    wanted = {word.strip() for word in variants.split(",")} if variants else {*get_args(Variant)}
    if unknown := wanted - set(get_args(Variant)):
        raise BadInput(f"--variants: no {min(unknown)}; there are {', '.join(get_args(Variant))}")
    chosen = tuple(name for name in get_args(Variant) if name in wanted)
    if classifier is not None:
        if out is None or tflite is not None or keep_float or quantisation_aware or quote:
            raise BadInput("--classifier goes with --out, --data, --version, --variants and --key")
        _join(run, classifier, out, data, version, chosen, read_signing_key(key), as_json)
        return
    from train.locator.recipe import is_locator_run

    if is_locator_run(run):
        raise BadInput(f"{run}: the run of a locator; --classifier BUNDLE names what it joins")
    if quantisation_aware and "int8" not in chosen:
        raise BadInput("--quantisation-aware: int8 is not among the --variants")
    if keep_float and "int8" not in chosen:
        raise BadInput("--keep-float: int8 is not among the --variants")
    signing = None if out is None else read_signing_key(key)
    trained = read_run(run, data)
    with progress_bar() as bar:
        options = ConversionOptions(
            run.resolve().name if out is None else out.stem,
            version,
            chosen,
            variants is not None,
            tuple(keep_float or ()),
            quantisation_aware,
            tuple(quote or ()),
            signing,
        )
        built = build_bundle(trained, out, options, lambda name: tracked(bar, name), tflite)
    if as_json:
        print(json.dumps([asdict(comparison) for comparison in built.comparisons]))
    else:
        _show(built.comparisons)
    console = Console(stderr=True)
    for comparison in built.comparisons:
        if comparison.failures and comparison.variant in chosen:
            failures = "; ".join(comparison.failures)
            line = f"{comparison.variant} is left out: {failures}"
            if untried := remedies(comparison.variant, options):
                line += f"; try: {'; '.join(untried)}"
            console.print(line, markup=False, soft_wrap=True)
    if tflite is not None:
        names = ", ".join(sorted(path.name for path in tflite.iterdir()))
        console.print(f"{tflite}: {names}", highlight=False, markup=False, soft_wrap=True)
    if out is None or built.bundle is None:
        return
    size = out.stat().st_size / 1e6
    if built.complaint is not None:
        console.print(f"nothing for the Edge TPU: {built.complaint}", markup=False, soft_wrap=True)
    for line in (
        f"{out}: {built.bundle.id}, {size:.1f} MB",
        f"{out.with_suffix('.html')}: the gate, with its plots",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _join(
    run: Path,
    classifier: Path,
    out: Path,
    data: Path | None,
    version: int,
    variants: tuple[Variant, ...],
    key: "SigningKey",
    as_json: bool,
) -> None:
    """Writes a bundle with the classifier of one bundle and the locator of a run."""
    from convert.locator import join_locator
    from edge_runtime.bundle.archive import open_trusted
    from edge_runtime.commands.options import trusted_keys
    from train.locator.run import read_locator_run

    held = open_trusted(classifier, trusted_keys())
    trained = read_locator_run(run, data)
    with progress_bar() as bar:
        joined = join_locator(
            trained, held, out, out.stem, version, variants, key, lambda name: tracked(bar, name)
        )
    if as_json:
        print(json.dumps([asdict(comparison) for comparison in joined.comparisons]))
    else:
        _show(joined.comparisons)
    line = f"{out}: {joined.bundle.id}, {out.stat().st_size / 1e6:.1f} MB"
    Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


@quiet()
def validate(
    bundle: Annotated[Path, typer.Argument(help="The bundle, such as nodule.sonolite.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images, to measure the classifier: CSV, Pascal VOC or class folders."
        ),
    ] = None,
    marked: Annotated[
        Path | None,
        typer.Option(help="Marked pictures or clips, to measure the locator."),
    ] = None,
    out_of_scope: Annotated[
        Path | None,
        typer.Option(
            help="Images and videos of something else: how well does the model tell them apart?"
        ),
    ] = None,
    tirads: Annotated[str | None, typer.Option(help=TIRADS_HELP)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure each variant on other data; exit 1 if one lies too far below float32.

    Without float32 in the bundle it prints the figures of the other variants, and judges none.

    Examples: sonolite validate nodule.sonolite --data other-hospital --out-of-scope lungs

    sonolite validate finder.sonolite --marked other-sweeps
    """
    from convert.validation import validate_bundle
    from edge_runtime.bundle.archive import open_trusted
    from edge_runtime.commands.options import trusted_keys
    from train.importers.ddti import parse_grades
    from train.samples import tell_dropped

    if (data is None) == (marked is None):
        raise BadInput("--data for the classifier, or --marked for the locator: one of them")
    opened = open_trusted(bundle, trusted_keys(), admitted_versions())
    if data is None:
        assert marked is not None
        if out_of_scope is not None or tirads is not None:
            raise BadInput("--marked goes with --json alone")
        _validate_locator(opened, marked, as_json)
        return
    with progress_bar() as bar:
        grades = parse_grades(tirads) if tirads else {}
        done = validate_bundle(opened, data, out_of_scope, grades, lambda name: tracked(bar, name))
    if as_json:
        print(json.dumps([asdict(comparison) for comparison in done.comparisons]))
    else:
        _show(done.comparisons)
    console = Console(stderr=True, soft_wrap=True)
    for line in tell_dropped(done.dropped):
        console.print(line, markup=False)
    if any(comparison.failures is None for comparison in done.comparisons):
        console.print(f"{bundle}: no {REFERENCE} in it, so no limit was judged", markup=False)
    if any(comparison.failures for comparison in done.comparisons):
        raise typer.Exit(1)


def _validate_locator(bundle: "Bundle", marked: Path, as_json: bool) -> None:
    """Measures the locator of a bundle, and shows the figures of each variant."""
    from convert.locator_validation import validate_locator
    from devices.schema_io import plain
    from train.locator.commands import show

    with progress_bar() as bar:
        console = bar.console
        found = validate_locator(
            bundle,
            marked,
            lambda line: console.print(f"note: {line}", markup=False, soft_wrap=True),
            lambda name: tracked(bar, name),
        )
    if as_json:
        print(json.dumps(plain(found)))
    else:
        show(
            {name: each.metrics for name, each in found.items()},
            {name: each.clips for name, each in found.items() if each.clips},
        )


def _show(comparisons: Sequence["Comparison"]) -> None:
    """The comparison as a table on the terminal, and what does not hold."""
    from edge_runtime.bundle.gate import rows

    Console().print(
        figures_table([comparison.variant for comparison in comparisons], rows(comparisons))
    )
