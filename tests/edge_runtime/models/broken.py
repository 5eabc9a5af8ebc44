"""Models that crash the interpreter or break the contract, in bundles that are signed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edge_runtime.bundle.archive import Bundle, list_members, write_bundle
from edge_runtime.bundle.signing import read_signing_key


def with_absurd_scale(model: bytes) -> bytes:
    """The model with one byte changed: the exponent of the scale of a filter, so that the
    interpreter stops the process where it asserts that the scale can be written as a shift.
    """
    graph = schema.Model.GetRootAs(model, 0).Subgraphs(0)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        scales = tensor.Quantization()
        if tensor.ShapeLength() == 4 and scales is not None and scales.ScaleLength() > 1:
            table = scales._tab
            changed = bytearray(model)
            changed[table.Vector(table.Offset(8)) + 3] = 0x7E
            return bytes(changed)
    raise AssertionError("no filter with a scale a channel")


def without_its_first_table(model: bytes) -> bytes:
    """The model with one byte changed in the table at its root: it points outside the file."""
    return model[:16] + b"\0" + model[17:]


def resigned(bundle: Bundle, member: str, model: bytes, path: Path) -> Path:
    """The bundle with another model, signed again by the tests' own key."""
    contents = {name: bundle.read(name) for name in bundle.manifest.members}
    contents[member] = model
    manifest = replace(bundle.manifest, name="broken", members=list_members(contents))
    write_bundle(path, manifest, contents, read_signing_key(None))
    return path


def answering(answer: Callable[[Any], dict[str, Any]], side: int) -> bytes:
    """A model whose outputs are `answer` of the picture, float32 ``[1, side, side, 1]``."""
    import tensorflow as tf  # here: few tests make a model

    class Model(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, side, side, 1), tf.uint8, "picture")])  # type: ignore[untyped-decorator]
        def answers(self, picture: Any) -> dict[str, Any]:
            return answer(tf.cast(picture, tf.float32))

    model = Model()
    with TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures=model.answers)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
