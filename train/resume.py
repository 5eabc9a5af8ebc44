"""An unfinished training: the folder from which `sonolite train --resume` goes on."""

import hashlib
import io
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.packed_arrays import unpack_arrays
from devices.regular_file import MAX_MODEL, read_regular
from devices.schema_io import read_json, write_json
from edge_runtime.files import refuse_existing, whole_file

Arrays = list[NDArray[np.generic]]
Line = TypeVar("Line")
"""One line of the history of a training."""
STATE = "state.npz"


def unfinished(out: Path) -> Path:
    """Where the training of the run `out` keeps what it needs to be gone on with."""
    return out.parent / f"{out.name}.unfinished"


def refuse_taken(
    out: Path, resume: bool, require_left: Callable[[Path], object] | None = None
) -> None:
    """Raises BadInput where there is a run already, or an unfinished one that is not resumed.

    What Ctrl-C left of one that is resumed is replaced, if it is nothing but that: `require_left`
    raises BadInput where a folder is anything else, by default where it is no such run of a
    classifier.
    """
    left = unfinished(out)
    if not resume or not left.exists():
        refuse_existing(out)
    if left.exists() and not resume:
        raise BadInput(f"{left}: an unfinished training; go on with --resume, or remove it")
    if resume and not left.exists():
        raise BadInput(f"{left}: there is no unfinished training to go on with")
    if resume and out.exists():
        if require_left is None:
            from train.run import refuse_strangers  # here, as it loads TensorFlow

            require_left = refuse_strangers
        require_left(out)


def refuse_more_than(folder: Path, interrupted: bool, files: Collection[str]) -> None:
    """Raises BadInput where a run was not `interrupted`, or its folder holds more than `files`:
    what is there is about to be replaced.
    """
    if not interrupted:
        raise BadInput(f"{folder}: a run that is whole; remove what is unfinished beside it")
    if strangers := sorted({file.name for file in folder.iterdir()} - {*files}):
        raise BadInput(f"{folder}: would be replaced; move {', '.join(strangers)} elsewhere first")


def begin(folder: Path, recipe: object, seed: int, data: str) -> None:
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
        raise BadInput(
            f"{folder}: was begun with another recipe, seed or data, or version; go on with those, "
            "or remove it"
        )


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


def write_state(
    folder: Path, history: Sequence[object], arrays: Sequence[NDArray[np.generic]]
) -> None:
    """Writes the state of a training: numbers alone, whole or not at all."""
    written = io.BytesIO()
    np.savez(
        written,
        history=np.frombuffer(write_json(history), np.uint8),
        **{f"{index:05}": array for index, array in enumerate(arrays)},  # type: ignore[arg-type]
    )
    with whole_file(folder / STATE) as path:
        path.write_bytes(written.getvalue())


def read_state(
    folder: Path, line: type[Line], shapes: Sequence[tuple[int, ...]]
) -> tuple[tuple[Line, ...], Arrays]:
    """The history and the arrays of the state in `folder`; no line, where there is none.

    Raises BadInput where it is damaged, or its arrays have other shapes than `shapes`.
    """
    if not (folder / STATE).exists():
        return (), []
    try:
        state = unpack_arrays(read_regular(folder / STATE, MAX_MODEL), MAX_MODEL)
        history = read_json(state["history"].tobytes(), tuple[line, ...], "history")  # type: ignore[valid-type]
        arrays = [state[name] for name in sorted(state) if name != "history"]
        if not history or [array.shape for array in arrays] != list(shapes):
            raise ValueError("of another network")
    except Exception as error:  # NumPy raises whatever a damaged file leads it to
        raise BadInput(
            f"{folder / STATE}: not a state that can be gone on from; remove it, and its network "
            "begins anew"
        ) from error
    return history, arrays
