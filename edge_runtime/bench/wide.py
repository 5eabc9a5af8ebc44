"""The same model with an input of three channels, which MediaPipe needs."""

import io
import zipfile
from typing import Any

import numpy as np


def widen_input(model: bytes, schema: Any) -> bytes:
    """A `.tflite` file with a slice before the model that takes the first of three channels.

    `schema` is MediaPipe's `metadata_schema_py_generated`. Graph, weights and labels stay.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as tflite

    def pack(root: Any, identifier: bytes) -> bytes:
        builder = flatbuffers.Builder()
        builder.Finish(root.Pack(builder), identifier)
        return bytes(builder.Output())

    graph = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model, 0))
    (main,), (signature,) = graph.subgraphs, graph.signatureDefs
    (grey,), wide = main.inputs, len(main.tensors)
    side = main.tensors[grey].shape[1]
    main.tensors.append(
        tflite.TensorT(
            name=b"wide",
            shape=[1, side, side, 3],
            type=tflite.TensorType.UINT8,
            quantization=main.tensors[grey].quantization,
        )
    )
    for name, values in ((b"begin", [0, 0, 0, 0]), (b"size", [1, side, side, 1])):
        main.tensors.append(
            tflite.TensorT(
                name=name, shape=[4], type=tflite.TensorType.INT32, buffer=len(graph.buffers)
            )
        )
        graph.buffers.append(tflite.BufferT(data=np.array(values, np.int32).view(np.uint8)))
    code = tflite.BuiltinOperator.SLICE
    main.operators.insert(
        0,
        tflite.OperatorT(
            opcodeIndex=len(graph.operatorCodes), inputs=[wide, wide + 1, wide + 2], outputs=[grey]
        ),
    )
    graph.operatorCodes.append(tflite.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code))
    main.inputs = [wide]
    signature.inputs[0].tensorIndex = wide

    (number,) = [entry.buffer for entry in graph.metadata if entry.name == b"TFLITE_METADATA"]
    described = bytes(np.asarray(graph.buffers[number].data, np.uint8))
    metadata = schema.ModelMetadataT.InitFromPackedBuf(described)
    picture = metadata.subgraphMetadata[0].inputTensorMetadata[0]
    picture.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    graph.buffers[number].data = np.frombuffer(pack(metadata, b"M001"), np.uint8)
    content = io.BytesIO(pack(graph, b"TFL3"))
    with zipfile.ZipFile(io.BytesIO(model)) as ours, zipfile.ZipFile(content, "a") as archive:
        archive.writestr(ours.infolist()[0], ours.read("labels.txt"))
    return content.getvalue()
