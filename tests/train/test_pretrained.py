"""ImageNet's weights are the published ones in their places, and nothing in a file can run."""

import pickle
import struct
from dataclasses import replace
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from skimage.data import chelsea

from devices import BadInput
from train.network import build
from train.pretrained import MAGIC, PACKAGES, PROTOCOL, Tensors, load_imagenet, read_package
from train.pretrained import read_tensors as read
from train.recipe import EfficientNetLite

LITE0 = PACKAGES[1.0, 1.0]
NETWORK = EfficientNetLite(dropout=0.0, weights="imagenet", outputs=("evidence",))
CATS = range(281, 286)
"""ImageNet's tabby, tiger, Persian, Siamese and Egyptian cat."""


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return read_package(LITE0)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = build(NETWORK, 224, 1000)
    load_imagenet(model, NETWORK)
    return model


def test_the_tensors_are_the_published_ones(tensors: Tensors) -> None:
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learnt = [its for name, its in tensors.items() if not name.endswith(statistics)]
    assert len(tensors) == 296
    assert sum(its.size for its in learnt) == 4_652_008
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_blocks.0._depthwise_conv.weight"].shape == (32, 1, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert tensors["_conv_stem.weight"].ravel()[:3] == pytest.approx(
        [-1.1103361, -1.3087704, -0.01015691]
    )
    assert tensors["_fc.bias"][:3] == pytest.approx([0.03205391, -0.01598576, 0.00529074], rel=1e-5)


def test_the_grey_kernel_is_the_sum_over_the_colours(model: keras.Model, tensors: Tensors) -> None:
    (kernel,) = model.get_layer("stem").get_weights()
    assert kernel.shape == (3, 3, 1, 32)
    assert kernel[..., 0, 5] == pytest.approx(tensors["_conv_stem.weight"][5].sum(axis=0))


def convolve(x: NDArray[np.floating], kernel: NDArray[np.floating], stride: int) -> Any:
    """Of ``[C, H, W]`` with ``[K, C or 1, h, w]``, padded as TensorFlow's `SAME`."""
    size = kernel.shape[-1]
    wanted = [-(-side // stride) for side in x.shape[1:]]
    missing = [
        max(0, (n - 1) * stride + size - s) for n, s in zip(wanted, x.shape[1:], strict=True)
    ]
    x = np.pad(x, ((0, 0), *((its // 2, its - its // 2) for its in missing)))
    windows = sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    if kernel.shape[1] == 1 and len(kernel) == len(x):
        return np.einsum("cijhw,chw->cij", windows, kernel[:, 0], optimize=True)
    return np.einsum("cijhw,kchw->kij", windows, kernel, optimize=True)


def by_the_paper(tensors: Tensors, grey: NDArray[np.uint8]) -> NDArray[np.floating]:
    """EfficientNet-Lite0's last activations, ``[1280, h, w]``, of three equal channels."""

    def normalise(x: NDArray[np.floating], key: str, active: bool = True) -> NDArray[np.floating]:
        its = {name: tensors[f"{key}.{name}"][:, None, None] for name in ("weight", "bias")}
        mean, variance = (tensors[f"{key}.running_{it}"][:, None, None] for it in ("mean", "var"))
        x = (x - mean) / np.sqrt(variance + 1e-3) * its["weight"] + its["bias"]
        return np.clip(x, 0, 6) if active else x

    colours = np.repeat((grey.astype(np.float64)[None] - 127) / 128, 3, axis=0)
    x = normalise(convolve(colours, tensors["_conv_stem.weight"], 2), "_bn0")
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for number in range(16):
        key, short = f"_blocks.{number}", x
        if number:
            x = normalise(convolve(x, tensors[f"{key}._expand_conv.weight"], 1), f"{key}._bn0")
        depthwise = tensors[f"{key}._depthwise_conv.weight"]
        x = normalise(convolve(x, depthwise, strides.get(number, 1)), f"{key}._bn1")
        x = convolve(x, tensors[f"{key}._project_conv.weight"], 1)
        x = normalise(x, f"{key}._bn2", active=False)
        if x.shape == short.shape:
            x = x + short
    return normalise(convolve(x, tensors["_conv_head.weight"], 1), "_bn1")


def test_a_picture_goes_the_way_of_the_published_network(tensors: Tensors) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    model = build(NETWORK, 64, 2)
    load_imagenet(model, NETWORK)
    head = keras.Model(model.input, model.get_layer("head_active").output)
    ours = head(picture[None, ..., None]).numpy()[0].transpose(2, 0, 1)
    expected = by_the_paper(tensors, picture)
    assert ours.shape == expected.shape == (1280, 2, 2)
    assert expected.std() > 0.1
    assert ours == pytest.approx(expected, abs=1e-3)


def test_a_cat_is_a_cat_in_grey(model: keras.Model, tensors: Tensors) -> None:
    """What the mapped network sees means what it meant to the published one's last layer."""
    kernel = tensors["_fc.weight"].T[None, None]
    model.get_layer("logits").set_weights([kernel, tensors["_fc.bias"]])
    colours: NDArray[np.uint8] = chelsea()  # type: ignore[no-untyped-call]
    grey = colours[:, 75:375].mean(axis=2).astype(np.uint8)
    picture = cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA)
    probability = model(picture[None, ..., None])["probability"].numpy()[0]
    assert probability[CATS].sum() > 0.5
    assert probability.argmax() in CATS


def test_a_package_that_is_not_there_is_named() -> None:
    package = replace(LITE0, module="efficientnet_lite9_pytorch_model")
    with pytest.raises(BadInput, match="pip install efficientnet-lite9-pytorch-model"):
        read_package(package)


def test_a_package_without_its_file_is_named() -> None:
    with pytest.raises(BadInput, match=r"other\.pth: No such file"):
        read_package(replace(LITE0, file="other.pth"))


def test_other_bytes_than_the_published_are_refused() -> None:
    with pytest.raises(BadInput, match="not the published weights"):
        read_package(replace(LITE0, sha256="0" * 64))


def word(text: str) -> bytes:
    """A string in pickle's words."""
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return b"I%d\n" % value


def tensor(
    name: str, shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1), offset: int = 0
) -> bytes:
    """A tensor's entry in the pickle of the layouts, over a storage of six floats."""
    storage = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu")
    storage += number(6) + b"NtQ"
    sizes, steps = (b"(" + b"".join(map(number, its)) + b"t" for its in (shape, strides))
    hooks = b"I00\nccollections\nOrderedDict\n)R"
    whole = b"(" + storage + number(offset) + sizes + steps + hooks + b"t"
    return word(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + whole + b"R"


def weights_file(layouts: bytes, magic: int = MAGIC) -> bytes:
    """A file in PyTorch's first format with one storage, the floats 0 to 5."""
    head = pickle.dumps(magic, 2) + pickle.dumps(PROTOCOL, 2) + pickle.dumps({}, 2)
    values = struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()
    return head + b"\x80\x02}(" + layouts + b"u." + pickle.dumps(["0"], 2) + values


def test_a_file_is_read_by_its_layout() -> None:
    found = read(
        weights_file(tensor("a") + tensor("b", (3, 2), (1, 3)) + tensor("c", (2,), (2,), 1))
    )
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["c"].tolist() == [1, 3]


def test_a_number_out_of_its_order_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(BadInput, match="a number is out of its order"):
        read(weights_file(word("a") + b"r" + struct.pack("<I", 99) + tensor("a")[6:]))


WHOLE = weights_file(tensor("a") + tensor("b"))


@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match="not a weights file"):
        read(WHOLE[:length])


@settings(max_examples=300)
@given(place=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
def test_a_damaged_file_gives_numbers_or_is_refused(place: int, byte: int) -> None:
    try:
        found = read(WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :])
    except BadInput:
        return
    assert all(isinstance(its, np.ndarray) for its in found.values())


@pytest.mark.parametrize(
    "layouts",
    [
        tensor("a", (2, 4), (3, 1)),
        tensor("a", offset=1),
        tensor("a", offset=-1),
        tensor("a", offset=6),
        tensor("a", strides=(-3, 1)),
        tensor("a", (2, 3), (1 << 40, 1)),
        tensor("a", (1 << 40, 1 << 40), (0, 0)),
        tensor("a", (2, 3), (1,)),
        tensor("a", (-2, 3), (3, 1)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(layouts: bytes) -> None:
    with pytest.raises(BadInput, match="not a weights file"):
        read(weights_file(layouts))


@pytest.mark.parametrize("name", ["os\nsystem", "posix\nsystem", "builtins\neval", "torch\nload"])
def test_nothing_in_a_file_can_run(name: str) -> None:
    """The classic: a pickle that calls a function as it is read."""
    attack = word("a") + f"c{name}\n".encode() + b"(" + word("exit 1") + b"tR"
    with pytest.raises(BadInput, match=f"{name.replace(chr(10), '.')} is refused"):
        read(weights_file(attack))


def test_another_format_is_refused() -> None:
    with pytest.raises(BadInput, match="another format"):
        read(weights_file(tensor("a"), magic=1))
    with pytest.raises(BadInput, match="not a weights file"):
        read(b"PK\x03\x04")
