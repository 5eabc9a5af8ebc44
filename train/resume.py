"""An unfinished training: the folder from which `sonolite train --resume` goes on."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devices import BadInput
from devices.regular_file import read_regular
from devices.schema_io import write_json
from edge_runtime.files import refuse_existing, whole_file
from train.recipe import Recipe


def unfinished(out: Path) -> Path:
    """Where the training of the run `out` keeps what it needs to be gone on with."""
    return out.parent / f"{out.name}.unfinished"


def refuse_taken(out: Path, resume: bool) -> None:
    """Raises BadInput where there is a run already, or an unfinished one that is not resumed.

    What Ctrl-C left of one that is resumed is replaced, if it is nothing but that.
    """
    left = unfinished(out)
    if not resume or not left.exists():
        refuse_existing(out)
    if left.exists() and not resume:
        raise BadInput(f"{left}: an unfinished training; go on with --resume, or remove it")
    if resume and not left.exists():
        raise BadInput(f"{left}: there is no unfinished training to go on with")
    if resume and out.exists():
        from train.run import refuse_strangers  # here, as it loads TensorFlow

        refuse_strangers(out)


def begin(folder: Path, recipe: Recipe, seed: int, data: str) -> None:
    """Makes the folder of an unfinished training, or takes it up.

    Raises BadInput where it is that of another recipe, seed or split: what one training tests, the
    other may have learnt.
    """
    folder.mkdir(exist_ok=True)
    begun = folder / "begun"
    content = b"%b%d\n%b" % (write_json(recipe), seed, data.encode())
    identity = hashlib.sha256(content).hexdigest()
    if not begun.exists():
        with whole_file(begun) as path:
            path.write_text(identity)
    if read_regular(begun) != identity.encode():
        raise BadInput(f"{folder}: was begun with another recipe, seed or data, or version")


@contextmanager
def set_aside(run: Path, place: Path) -> Iterator[None]:
    """Moves a run of fewer epochs to `place` while that of more is written, which it makes room
    for; back, where that fails.
    """
    if run.exists():
        shutil.rmtree(place, ignore_errors=True)
        run.rename(place)
    try:
        yield
    finally:
        if place.exists() and not run.exists():
            place.rename(run)
        shutil.rmtree(place, ignore_errors=True)
