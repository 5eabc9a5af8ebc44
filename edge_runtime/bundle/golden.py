"""Golden frames: pictures with the answers of the float model, to check a backend on a device."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.packed_arrays import unpack_arrays
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.preprocess import Preprocessing

GOLDEN = "golden.npz"
MAX_GOLDEN = 1 << 26
"""Bytes of the arrays of a member with golden answers."""
MAX_GOLDEN_FRAMES, MAX_GOLDEN_SIDE = 64, 2048
"""Golden frames, and pixels of a side of them: each frame becomes a tensor, and a crop around it is
up to four times as wide."""


@dataclass(frozen=True)
class Golden:
    """Frames with the answers of the float model, to check a backend before a session begins."""

    frames: tuple[Pixels, ...]
    """uint8 ``[H, W, 3]`` each; made by the phantom, so that no patient's picture is passed on."""
    box: Box
    """The box to classify in each frame."""
    probability: NDArray[np.float32]
    """float32 ``[N, labels]``: the answers of the Keras model."""


def golden_tensors(
    frames: Sequence[Pixels], box: Box, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """The tensors of golden frames, uint8 ``[N, side, side, 1]``.

    The float model answers these tensors on the host, and each backend answers them on the device.
    """
    return np.concatenate([preprocessing(frame, box) for frame in frames])


def write_golden(golden: Golden) -> bytes:
    """The bytes of `golden.npz`."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        frames=np.stack(golden.frames),
        box=np.array(golden.box, dtype=np.int64),
        probability=golden.probability,
    )
    return buffer.getvalue()


def read_arrays(bundle: Bundle, member: str) -> dict[str, NDArray[Any]]:
    """The arrays in a member of a bundle, by name. Raises BadInput where it holds none."""
    try:
        return unpack_arrays(bundle.read(member), MAX_GOLDEN)
    except ValueError as error:
        raise BadInput(f"{bundle.path}: {member} holds no golden frames: {error}") from error


def read_golden(bundle: Bundle) -> Golden:
    """The golden frames of a bundle. Raises BadInput where the member does not hold any."""
    arrays = read_arrays(bundle, GOLDEN)
    try:
        frames, box, probability = (arrays[name] for name in ("frames", "box", "probability"))
    except KeyError as error:
        raise BadInput(f"{bundle.path}: {GOLDEN} holds no golden frames") from error
    sound = (
        frames.dtype == np.uint8
        and frames.ndim == 4
        and 1 <= frames.shape[0] <= MAX_GOLDEN_FRAMES
        and 1 <= min(frames.shape[1:3]) <= max(frames.shape[1:3]) <= MAX_GOLDEN_SIDE
        and frames.shape[3] == 3
        and box.shape == (4,)
        and box.dtype == np.int64
        and probability.dtype == np.float32
        and probability.ndim == 2
        and probability.shape[0] == frames.shape[0]
        and bool(((probability >= 0) & (probability <= 1)).all())
        and box.min() >= 0
        and box.max() <= MAX_GOLDEN_SIDE
        and box[2:].min() > 0
        and box[0] + box[2] <= frames.shape[2]
        and box[1] + box[3] <= frames.shape[1]
    )
    if not sound:
        raise BadInput(f"{bundle.path}: {GOLDEN} holds no golden frames")
    return Golden(tuple(frames), Box(*box.tolist()), probability)
