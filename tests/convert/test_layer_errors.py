"""Where an int8 model loses what the float one knows, and what keeping layers in float mends."""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convert.layer_errors import (
    LayerError,
    convert_keeping,
    effects,
    keep_worst,
    layer_errors,
    plot_layers,
    worst,
)
from convert.tflite import check, convert
from devices import BadInput
from devices.compute import CpuBackend
from devices.compute.interpreter import find_interpreter
from train.network import build
from train.recipe import Convolutions, EfficientNetLite

SIDE = 32
PLAIN = Convolutions(filters=(8, 8), head="flatten", dropout=0.2, dense=16)
SLIM = EfficientNetLite(dropout=0.2, width=0.25, depth=0.25, outputs=("evidence", "embedding"))
HIGH = 20.0
"""dB that a sound int8 model keeps everywhere; one that was broken falls far below."""


def draw(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of blobs: uint8 ``[N, side, side, 1]`` over the whole grey scale."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, SIDE // 8, SIDE // 8, 1), np.uint8))


def plain() -> keras.Model:
    keras.utils.set_random_seed(1)
    return build(PLAIN, SIDE, 2)


def uneven(model: keras.Model) -> keras.Model:
    """One channel of conv1 a thousand times as loud, which conv2 undoes: float is unchanged."""
    kernel, bias = model.get_layer("conv1").get_weights()
    kernel[..., 0] *= 1000
    bias[0] *= 1000
    model.get_layer("conv1").set_weights([kernel, bias])
    kernel, bias = model.get_layer("conv2").get_weights()
    kernel[:, :, 0] /= 1000
    model.get_layer("conv2").set_weights([kernel, bias])
    return model


def answers(content: bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    backend = CpuBackend(content, "m.tflite")
    return np.concatenate([backend.run(its[None])["probability"] for its in pictures])


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return draw(16)


@pytest.fixture(scope="module")
def float32(pictures: NDArray[np.uint8]) -> bytes:
    return convert(plain(), "float32", pictures)


@pytest.fixture(scope="module")
def int8(pictures: NDArray[np.uint8]) -> bytes:
    return convert(plain(), "int8", pictures)


@pytest.fixture(scope="module")
def uneven_float32(pictures: NDArray[np.uint8]) -> bytes:
    return convert(uneven(plain()), "float32", pictures)


def float_operators(content: bytes) -> list[str]:
    """The operators that compute in float; changing from and to it does not count."""
    module, _ = find_interpreter()
    plain_kernels = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = module.Interpreter(
        model_content=content, experimental_op_resolver_type=plain_kernels
    )
    dtypes = {its["index"]: its["dtype"] for its in interpreter.get_tensor_details()}
    return [
        its["op_name"]
        for its in interpreter._get_ops_details()
        if its["op_name"] not in ("QUANTIZE", "DEQUANTIZE")
        and dtypes[its["outputs"][0]] is np.float32
    ]


def error(layer: str, arisen: float, snr_db: float = 30.0) -> LayerError:
    return LayerError(layer, "CONV_2D", snr_db, arisen, arisen, 0.1, 0.0, 1.0)


def test_a_model_against_itself_has_no_error(float32: bytes, pictures: NDArray[np.uint8]) -> None:
    for its in layer_errors(float32, float32, pictures):
        assert (its.snr_db, its.lost, its.arisen, its.largest) == (np.inf, 0, 0, 0)


def test_an_intact_model_is_heard_clearly_in_every_layer(
    float32: bytes, int8: bytes, pictures: NDArray[np.uint8]
) -> None:
    errors = layer_errors(float32, int8, pictures)
    assert [its.layer for its in errors] == [
        *("conv1", "pool1", "conv2", "pool2", "flatten", "dense", "logits", "probability")
    ]
    assert all(its.snr_db > HIGH and its.lost < 0.1 for its in errors)
    assert all(its.low < its.high for its in errors)


def test_the_layer_whose_channels_differ_a_thousandfold_is_named(
    uneven_float32: bytes, float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    """Its own ratio is that of the loud channel; what the others lost shows in the next layer's."""
    broken = convert(uneven(plain()), "int8", pictures)
    sound = answers(float32, pictures)
    assert answers(uneven_float32, pictures) == pytest.approx(sound, abs=1e-4)
    assert np.abs(answers(broken, pictures) - sound).max() > 0.01
    errors = layer_errors(uneven_float32, broken, pictures)
    conv1, pool1, conv2 = errors[:3]
    assert worst(errors)[0] is conv1
    assert conv1.layer == "conv1"
    assert conv1.snr_db > HIGH > conv2.snr_db
    assert pool1.arisen < 0.1 < pool1.lost


@pytest.mark.slow
def test_the_worst_layers_are_kept_until_the_variant_holds(
    uneven_float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    """conv1 alone would not do: what it answers is quantised again before conv2 reads it."""
    expected = answers(uneven_float32, pictures)
    tried: list[float] = []

    def holds(candidate: bytes) -> bool:
        tried.append(float(np.abs(answers(candidate, pictures) - expected).max()))
        return tried[-1] < 0.01

    def make(keep: Sequence[str]) -> bytes:
        return convert_keeping(uneven(plain()), pictures, keep)

    ranked = tuple(effects(uneven(plain()), pictures, uneven_float32, pictures))
    found = keep_worst(make, ranked, holds)
    assert found is not None
    content, kept = found
    assert set(kept) == {"conv1", "pool1", "conv2"}
    assert min(tried[:2]) > 0.01
    assert len(tried) == 3
    assert float_operators(content) == ["CONV_2D", "MAX_POOL_2D", "CONV_2D"]
    assert content == make(kept)


def test_the_effects_are_those_of_each_layer_alone_and_the_largest_stands_first(
    uneven_float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    found = effects(uneven(plain()), pictures, uneven_float32, pictures[:8])
    assert set(found) == {
        *("conv1", "pool1", "conv2", "pool2", "flatten", "dense", "logits", "probability")
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)
    first, second, third, fourth, *_ = found
    assert {first, second, third} == {"conv1", "pool1", "conv2"}
    assert found[third] > 3 * found[fourth]


def test_what_never_holds_ends() -> None:
    tried: list[bytes] = []

    def never(candidate: bytes) -> bool:
        tried.append(candidate)
        return False

    assert keep_worst(lambda keep: " ".join(keep).encode(), "abc", never, at_most=2) is None
    assert tried == [b"a", b"a b"]


def test_keeping_nothing_is_int8(int8: bytes, pictures: NDArray[np.uint8]) -> None:
    content = convert_keeping(plain(), pictures, [])
    assert (answers(content, pictures) == answers(int8, pictures)).all()


@pytest.mark.parametrize("layer", ["conv1", "logits", "probability"])
def test_a_kept_layer_is_computed_in_float_and_the_others_are_not(
    pictures: NDArray[np.uint8], layer: str
) -> None:
    content = convert_keeping(plain(), pictures, [layer])
    check(content, "int8", SIDE, keeps_floats=True)
    floats = {
        "conv1": ["CONV_2D"],
        "logits": ["FULLY_CONNECTED"],
        "probability": ["SOFTMAX"],
    }
    assert float_operators(content) == floats[layer]


@pytest.mark.slow
def test_layers_that_became_one_are_named_by_what_holds_the_weights_and_kept_by_any() -> None:
    """Inverted residuals of random weights, whose statistics are those of the pictures."""
    keras.utils.set_random_seed(0)
    pictures = draw(8)
    model = build(SLIM, SIDE, 2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)
    content = convert_keeping(model, pictures, ["stem_active", "block1_project_norm"])
    assert float_operators(content) == ["CONV_2D", "CONV_2D"]
    errors = layer_errors(convert(model, "float32", pictures), content, pictures)
    layers = [its.layer for its in errors]
    assert layers[:4] == ["scale", "scale", "stem", "block0_depthwise"]
    assert [its for its in layers if its.startswith("block1_")] == [
        *("block1_expand", "block1_depthwise", "block1_project")
    ]
    assert {"logits", "probability", "evidence", "embedding"} <= set(layers)
    assert {its.layer for its in errors} <= {its.name for its in model.layers} | {
        *("evidence", "strided_slice1", "strided_slice_11")
    }


def test_one_calibration_picture_is_heard(float32: bytes, pictures: NDArray[np.uint8]) -> None:
    """Of one dark picture the ranges are too narrow for the others."""
    dark = (draw(1, seed=9) // 16).astype(np.uint8)
    errors = layer_errors(float32, convert(plain(), "int8", dark), pictures)
    assert min(its.snr_db for its in errors) < HIGH


def test_calibration_pictures_on_another_grey_scale_are_heard_from_the_first_layer_on(
    float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    scaled = (pictures / 255).astype(np.uint8)
    errors = layer_errors(float32, convert(plain(), "int8", scaled), pictures)
    first = next(its for its in errors if its.op == "CONV_2D")
    assert first.layer == "conv1"
    assert first.snr_db < HIGH


def test_a_variant_without_the_grey_scale_step_is_heard_where_it_was(
    float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    """The converter made it one with the first convolution."""
    other = plain()
    other.get_layer("scale").scale = 1.0
    errors = layer_errors(float32, convert(other, "int8", pictures), pictures)
    assert worst(errors)[0].layer == "conv1"
    assert worst(errors)[0].snr_db < 0


@pytest.mark.parametrize("variant", ["float16", "dynamic"])
def test_every_variant_can_be_measured(
    float32: bytes, pictures: NDArray[np.uint8], variant: Literal["float16", "dynamic"]
) -> None:
    errors = layer_errors(float32, convert(plain(), variant, pictures), pictures)
    assert {"conv1", "conv2", "dense"} <= {its.layer for its in errors}
    assert all(its.snr_db > HIGH for its in errors)


def test_a_variant_that_answers_no_numbers_is_nothing_but_noise(
    float32: bytes, pictures: NDArray[np.uint8]
) -> None:
    model = plain()
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias * np.nan])
    errors = layer_errors(float32, convert(model, "float32", pictures), pictures[:2])
    first = worst(errors)[0]
    assert (first.layer, first.snr_db, first.lost, first.largest) == ("logits", -np.inf, 1, np.inf)


def test_weights_that_are_not_numbers_are_refused_with_their_layer(
    pictures: NDArray[np.uint8],
) -> None:
    model = plain()
    kernel, bias = model.get_layer("conv2").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("conv2").set_weights([kernel, bias])
    content = convert(model, "float32", pictures)
    with pytest.raises(BadInput, match="conv2 has weights that are not numbers"):
        convert_keeping(model, pictures, [])
    with pytest.raises(BadInput, match="conv2 has weights that are not numbers"):
        layer_errors(content, content, pictures)


def test_an_unknown_layer_is_refused_with_those_of_like_name(
    pictures: NDArray[np.uint8],
) -> None:
    with pytest.raises(BadInput, match=r"no layer conv3 to keep in float; there are conv[12]"):
        convert_keeping(plain(), pictures, ["conv3"])


def test_what_cannot_be_compared_is_refused(float32: bytes, pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(BadInput, match="variant: the interpreter refuses the model"):
        layer_errors(float32, b"no model", pictures)
    with pytest.raises(BadInput, match="is not what the models take"):
        layer_errors(float32, float32, pictures[:, ::2])
    with pytest.raises(BadInput, match="no picture"):
        layer_errors(float32, float32, pictures[:0])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_the_worst_are_those_in_which_most_error_arises(arisen: list[float]) -> None:
    errors = [error(f"layer{number}", its) for number, its in enumerate(arisen)]
    named = worst(errors)
    assert len(named) == min(10, len(errors))
    assert [its.arisen for its in named] == sorted(arisen, reverse=True)[:10]


def test_the_plot_names_the_worst() -> None:
    errors = [error(f"layer{number}", number / 100) for number in range(15)]
    errors.append(error("silent", 1.0, snr_db=-np.inf))
    errors.append(error("exact", 0.0, snr_db=np.inf))
    (legend,) = plot_layers(errors).legends
    named = [entry.get_text() for entry in legend.get_texts()]
    assert len(named) == 10
    assert named[0] == "1  silent, -inf dB"
    assert any("layer14," in name for name in named)
    assert not any("layer5," in name for name in named)
