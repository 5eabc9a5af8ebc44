"""What a model file says of itself, read by others than who wrote it."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as tflite
from keras import layers
from numpy.typing import NDArray

from convert.golden import make_golden
from convert.metadata import with_metadata
from convert.tflite import convert
from devices.compute import CpuBackend
from devices.compute.interpreter import find_interpreter
from edge_runtime.bench.wide import widen_input
from edge_runtime.bundle.golden import golden_tensors
from edge_runtime.bundle.manifest import Variant
from edge_runtime.bundle.preprocess import parse

VARIANTS: tuple[Variant, ...] = ("float32", "float16", "dynamic", "int8")
LABELS = ("benign", "malignant")


def describe(model: bytes) -> bytes:
    return with_metadata(model, "nodule", 7, "Tells benign from malignant.", LABELS)


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """The golden frames, prepared: uint8 ``[8, 32, 32, 1]``."""
    preprocessing = parse("gray|crop(1.2)|resize(32)")
    golden = make_golden(lambda tensors: np.zeros((len(tensors), 2), np.float32), preprocessing)
    return golden_tensors(golden.frames, golden.box, preprocessing)


@pytest.fixture(scope="module", params=VARIANTS)
def plain(request: pytest.FixtureRequest, pictures: NDArray[np.uint8]) -> bytes:
    """A small model of all three outputs, as the converter leaves it."""
    keras.utils.set_random_seed(1)
    picture = keras.Input((32, 32, 1), dtype="uint8", name="picture")
    x = layers.Rescaling(1 / 255, name="scale")(picture)
    x = layers.Conv2D(8, 5, 4, padding="same", activation="relu", name="conv")(x)
    places = layers.Conv2D(2, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))(x)
    outputs = {
        "probability": layers.Softmax(name="probability")(layers.GlobalAveragePooling2D()(places)),
        "evidence": places[..., -1] - places[..., 0],
        "embedding": layers.GlobalAveragePooling2D()(x),
    }
    return convert(keras.Model(picture, outputs), request.param, pictures)


@pytest.fixture(scope="module")
def described(plain: bytes) -> bytes:
    return describe(plain)


@pytest.fixture(scope="module")
def mediapipe() -> Any:
    return pytest.importorskip("mediapipe", reason="mediapipe is not installed")


@pytest.fixture(scope="module")
def schema(mediapipe: Any) -> Any:
    """MediaPipe's own reader of the metadata."""
    return pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")


@pytest.fixture(scope="module")
def classifier(mediapipe: Any) -> Callable[[bytes], Any]:
    """MediaPipe's ImageClassifier of a model file, with nothing else told to it."""
    tasks = pytest.importorskip("mediapipe.tasks.python")

    def create(model: bytes) -> Any:
        options = tasks.vision.ImageClassifierOptions(tasks.BaseOptions(model_asset_buffer=model))
        return tasks.vision.ImageClassifier.create_from_options(options)

    return create


def read_metadata(model: bytes) -> bytes:
    graph = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model, 0))
    (number,) = [its.buffer for its in graph.metadata if its.name == b"TFLITE_METADATA"]
    return bytes(graph.buffers[number].data.tobytes())


def test_no_answer_changes_by_a_bit(
    plain: bytes, described: bytes, pictures: NDArray[np.uint8]
) -> None:
    before, after = CpuBackend(plain, "before"), CpuBackend(described, "after")
    for picture in pictures[:, None]:
        expected, answers = before.run(picture), after.run(picture)
        assert set(answers) == {"probability", "evidence", "embedding"}
        for name, answer in answers.items():
            np.testing.assert_array_equal(answer, expected[name])


def test_the_signature_and_the_static_batch_stay(plain: bytes, described: bytes) -> None:
    before, after = (
        find_interpreter()[0].Interpreter(model_content=its) for its in (plain, described)
    )
    assert after.get_signature_list() == before.get_signature_list() != {}
    assert after.get_input_details()[0]["shape_signature"].tolist() == [1, 32, 32, 1]
    assert str(after.get_tensor_details()) == str(before.get_tensor_details())


def test_the_same_model_gives_the_same_bytes_at_any_time(plain: bytes, described: bytes) -> None:
    assert describe(plain) == described
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert [its.date_time for its in archive.infolist()] == [(1980, 1, 1, 0, 0, 0)]


def test_the_label_file_is_packed_for_any_unzip(described: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"benign\nmalignant\n"
        assert archive.getinfo("labels.txt").external_attr >> 16 == 0o644


def test_mediapipe_reads_what_the_model_is(described: bytes, schema: Any) -> None:
    content = read_metadata(described)
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    metadata = schema.ModelMetadata.GetRootAs(content)
    assert metadata.Name() == b"nodule"
    assert metadata.Version() == b"7"
    assert metadata.Description() == b"Tells benign from malignant."
    assert metadata.MinParserVersion() == b"1.0.0"
    assert metadata.SubgraphMetadataLength() == 1


def test_mediapipe_reads_a_grey_picture_whose_pixels_go_in_as_they_are(
    described: bytes, schema: Any
) -> None:
    metadata = schema.ModelMetadataT.InitFromPackedBuf(read_metadata(described))
    (picture,) = metadata.subgraphMetadata[0].inputTensorMetadata
    assert picture.name == b"picture"
    assert picture.content.contentPropertiesType == schema.ContentProperties.ImageProperties
    assert picture.content.contentProperties.colorSpace == schema.ColorSpaceType.GRAYSCALE
    (unit,) = picture.processUnits
    assert unit.optionsType == schema.ProcessUnitOptions.NormalizationOptions
    assert (unit.options.mean.tolist(), unit.options.std.tolist()) == ([0], [1])
    assert (picture.stats.min.tolist(), picture.stats.max.tolist()) == ([0], [255])


def test_mediapipe_reads_each_output_in_the_order_of_the_graph(
    described: bytes, schema: Any
) -> None:
    interpreter = find_interpreter()[0].Interpreter(model_content=described)
    shapes = {
        name: its["shape"].tolist()
        for name, its in interpreter.get_signature_runner().get_output_details().items()
    }
    metadata = schema.ModelMetadataT.InitFromPackedBuf(read_metadata(described))
    outputs = metadata.subgraphMetadata[0].outputTensorMetadata
    told = [shapes[its.name.decode()] for its in outputs]
    assert told == [its["shape"].tolist() for its in interpreter.get_output_details()]
    files = {its.name: its.associatedFiles for its in outputs if its.associatedFiles}
    assert list(files) == [b"probability"]
    (file,) = files[b"probability"]
    assert file.name == b"labels.txt"
    assert file.type == schema.AssociatedFileType.TENSOR_AXIS_LABELS


def test_mediapipe_takes_no_grey_input(
    plain: bytes, described: bytes, classifier: Callable[[bytes], Any]
) -> None:
    """Not for the metadata: without it the same model is refused for its one channel."""
    with pytest.raises(ValueError, match="Only RGB color space is supported for now"):
        classifier(described)
    with pytest.raises(ValueError, match=r"depth = 3 or 4\. Got 1 x 32 x 32 x 1"):
        classifier(plain)


def test_mediapipe_classifies_as_the_interpreter(
    described: bytes,
    pictures: NDArray[np.uint8],
    mediapipe: Any,
    schema: Any,
    classifier: Callable[[bytes], Any],
) -> None:
    """From the file alone, but for a first operator that takes one of three equal channels."""
    backend = CpuBackend(described, "m.tflite")
    with classifier(widen_input(described, schema)) as theirs:
        for picture in pictures[:, None]:
            colours = np.ascontiguousarray(picture[0].repeat(3, axis=2))
            result = theirs.classify(mediapipe.Image(mediapipe.ImageFormat.SRGB, colours))
            heads = {its.head_name: its.categories for its in result.classifications}
            scores = {its.category_name: its.score for its in heads["probability"]}
            answer = backend.run(picture)["probability"][0]
            assert abs(answer[0] - answer[1]) > 0.01  # or the labels could change places unseen
            assert scores == pytest.approx(dict(zip(LABELS, answer, strict=True)), abs=1e-6)
