"""The standard TFLite metadata: what a model file says of itself to any program that reads it.

The metadata is a flatbuffer of its own, kept in a buffer of the model; the files that it names are
a zip archive behind the model's last byte. Its schema is `metadata_schema.fbs`, version 1.5.0, of
MediaPipe and tflite-support, whose own writers do not work any more.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any, TypeAlias

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tflite
from numpy.typing import NDArray

ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.0.0"
"""The first version of the schema that has every field below."""
LABELS = "labels.txt"

TABLES = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata"),
        *("author", "license", "associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content"),
        *("process_units", "stats", "associated_files"),
    ),
    "Content": ("content_properties_type", "content_properties"),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}
"""The schema's tables, as far as they are used; a field's place is its number in the flatbuffer."""

IMAGE_PROPERTIES = 2  # of ContentProperties
GRAYSCALE = 2  # of ColorSpaceType
NORMALIZATION_OPTIONS = 1  # of ProcessUnitOptions
TENSOR_AXIS_LABELS = 2  # of AssociatedFileType

DESCRIPTIONS = {
    "probability": "The calibrated probability of each class.",
    "evidence": "How much each place speaks for the last class, in log-odds.",
    "embedding": "Features that tell a picture unlike those the model learnt from.",
}

Table: TypeAlias = dict[int, "int | Reference"]
"""The fields of a table by their numbers; an int is one of an enumeration, a byte."""
Reference: TypeAlias = str | NDArray[np.float32] | list[Table] | Table
"""What a field holds by its offset."""


def with_metadata(
    model: bytes, name: str, version: int, description: str, labels: Sequence[str]
) -> bytes:
    """Returns the TFLite file `model` with its metadata and a label file; it computes the same.

    `model` has one input, a picture uint8 ``[1, side, side, 1]``, and among its outputs
    `probability`, float32 ``[1, classes]``; `labels` are the classes in their order. The same
    arguments give the same bytes.
    """
    graph = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model, 0))
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, _describe(graph, name, version, description)), IDENTIFIER)
    graph.metadata.append(tflite.MetadataT(name=ENTRY, buffer=len(graph.buffers)))
    graph.buffers.append(tflite.BufferT(data=np.frombuffer(builder.Output(), np.uint8)))
    builder = flatbuffers.Builder(len(model))
    builder.Finish(graph.Pack(builder), b"TFL3")
    content = io.BytesIO(builder.Output())
    with zipfile.ZipFile(content, "a") as archive:
        info = zipfile.ZipInfo(LABELS)  # dated 1980, so that no clock is in the bytes
        info.external_attr = 0o644 << 16
        archive.writestr(info, "".join(f"{label}\n" for label in labels))
    return content.getvalue()


def _describe(graph: Any, name: str, version: int, description: str) -> Table:
    """The metadata of a model; its tensors stand in the order of the graph, not of their names."""
    (signature,) = graph.signatureDefs
    names = {
        tensor.tensorIndex: tensor.name.decode() for tensor in signature.inputs + signature.outputs
    }
    (main,) = graph.subgraphs
    return _table(
        "ModelMetadata",
        name=name,
        description=description,
        version=str(version),
        subgraph_metadata=[
            _table(
                "SubGraphMetadata",
                input_tensor_metadata=[_picture(names[index]) for index in main.inputs],
                output_tensor_metadata=[_output(names[index]) for index in main.outputs],
            )
        ],
        min_parser_version=MIN_PARSER_VERSION,
    )


def _picture(name: str) -> Table:
    """The input: a grey picture whose pixels go in as they are, 0..255."""
    as_they_are = _table("NormalizationOptions", mean=_floats(0), std=_floats(1))
    return _table(
        "TensorMetadata",
        name=name,
        description="The prepared picture.",
        content=_table(
            "Content",
            content_properties_type=IMAGE_PROPERTIES,
            content_properties=_table("ImageProperties", color_space=GRAYSCALE),
        ),
        process_units=[
            _table("ProcessUnit", options_type=NORMALIZATION_OPTIONS, options=as_they_are)
        ],
        stats=_table("Stats", max=_floats(255), min=_floats(0)),
    )


def _output(name: str) -> Table:
    """An output; `probability` has its range and the label file.

    It has no score calibration: the temperature is among the weights.
    """
    table = _table("TensorMetadata", name=name, description=DESCRIPTIONS[name])
    if name != "probability":
        return table
    file = _table(
        "AssociatedFile", name=LABELS, description="One class a line.", type=TENSOR_AXIS_LABELS
    )
    stats = _table("Stats", max=_floats(1), min=_floats(0))
    return table | _table("TensorMetadata", stats=stats, associated_files=[file])


def _floats(value: float) -> NDArray[np.float32]:
    """One value for all channels."""
    return np.array([value], dtype=np.float32)


def _table(kind: str, **fields: int | Reference) -> Table:
    """A table of the schema."""
    return {TABLES[kind].index(name): value for name, value in fields.items()}


def _write(builder: Any, value: Reference) -> int:
    """Writes a value, after all that it refers to, and returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, list):
        offsets = [_write(builder, element) for element in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    places = {n: _write(builder, entry) for n, entry in value.items() if not isinstance(entry, int)}
    builder.StartObject(max(value) + 1)
    for number, entry in value.items():
        if isinstance(entry, int):
            builder.PrependInt8Slot(number, entry, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, places[number], 0)
    return int(builder.EndObject())
