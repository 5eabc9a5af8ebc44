"""Recipes, and the folders that a training leaves, which may come from elsewhere."""

import io
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

from convert.edgetpu import parse_log
from tests.fuzz.target import target
from train.locator.recipe import read_locator_recipe
from train.recipe import read_recipe

ROOT = Path(__file__).parents[3]


@target(lambda: [path.read_bytes() for path in sorted((ROOT / "train/recipes").glob("*.toml"))])
def recipe(content: bytes) -> object:
    path = Path("recipe.toml")
    path.write_bytes(content)
    return read_recipe(str(path))


@target(lambda: [(ROOT / "train/locator/nodule-locator.toml").read_bytes()])
def locator_recipe(content: bytes) -> object:
    path = Path("locator.toml")
    path.write_bytes(content)
    return read_locator_recipe(str(path))


LOG = b"""Edge TPU Compiler version 16.0
Operator                       Count      Status

CONV_2D                        12         Mapped to Edge TPU
SOFTMAX                        1          Operation is otherwise supported, but not mapped
"""


@target(lambda: [LOG])
def compiler_log(content: bytes) -> object:
    return parse_log(content.decode(errors="replace"))


def trained() -> Path:
    """A run of one epoch on pictures of the phantom, made once."""
    from tests.conftest import TINY, draw_labelled, sonolite

    folder = Path("trained").resolve()
    if not folder.exists():
        recipe_file = Path("one.toml")
        recipe_file.write_text(TINY.replace("epochs = 30", "epochs = 1"))
        images = draw_labelled(Path("images"))
        done = sonolite("train", images, "--recipe", recipe_file, "--out", folder)
        assert done.code == 0, done
    return folder


@target(lambda: [(trained() / "run.json").read_bytes()], heavy=True)
def run_record(content: bytes) -> object:
    from train.run import read_record

    folder = Path("run")
    folder.mkdir(exist_ok=True)
    (folder / "model.keras").touch()
    (folder / "split.csv").touch()
    (folder / "run.json").write_bytes(content)
    record = read_record(folder)
    return record.rule, record.learnt, record.seconds


@target(lambda: [(trained() / "split.csv").read_bytes()], heavy=True)
def run_split(content: bytes) -> object:
    from train.run import _read_split, read_record

    path = Path("split.csv")
    path.write_bytes(content)
    return _read_split(path, trained(), read_record(trained()))


@target(lambda: [(trained() / "answers.csv").read_bytes()], heavy=True)
def test_answers(content: bytes) -> object:
    from train.run import read_test_answers

    Path("answers.csv").write_bytes(content)
    return read_test_answers(Path(), ("benign", "malignant"))


SPLIT = b"""path,frame,xmin,ymin,xmax,ymax,group,split
a.png,0,1,2,30,40,p1,train
b.png,0,,,,,p2,test
"""


@target(lambda: [SPLIT], heavy=True)
def locator_split(content: bytes) -> object:
    from train.locator.run import merge_rows, read_split

    Path("split.csv").write_bytes(content)
    return merge_rows(read_split(Path("split.csv")), Path())


def weights_file() -> Sequence[bytes]:
    """Two tensors in PyTorch's first format, without PyTorch: pickles one after the other."""
    from train.pretrained import MAGIC, PROTOCOL

    def name(module: str, attribute: str) -> bytes:
        return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"

    def storage(key: str, count: int) -> bytes:
        items = [pickle.dumps(each, 2)[2:-1] for each in ("storage",)]
        kind = name("torch", "FloatStorage")
        rest = [pickle.dumps(each, 2)[2:-1] for each in (key, "cpu", count, None)]
        return b"(" + items[0] + kind + b"".join(rest) + b"tQ"

    def tensor(key: str, shape: tuple[int, ...], strides: tuple[int, ...], count: int) -> bytes:
        rest = [pickle.dumps(each, 2)[2:-1] for each in (0, shape, strides, False)]
        call = name("torch._utils", "_rebuild_tensor_v2")
        return call + b"(" + storage(key, count) + b"".join(rest) + b"NtR"

    entries = b"".join(
        pickle.dumps(key, 2)[2:-1] + tensor(key, shape, strides, 6)
        for key, shape, strides in (("a", (2, 3), (3, 1)), ("b", (6,), (1,)))
    )
    file = io.BytesIO()
    for each in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(each, file, 2)
    file.write(b"\x80\x02}(" + entries + b"u.")
    pickle.dump(["a", "b"], file, 2)
    for _ in range(2):
        file.write(struct.pack("<q6f", 6, *range(6)))
    return [file.getvalue()]


@target(weights_file, heavy=True)
def weights(content: bytes) -> object:
    from train.pretrained import read_tensors

    return read_tensors(content)
