"""Golden frames: pictures with the float model's answers, which prove a backend on a device."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.preprocess import Preprocessing

GOLDEN = "golden.npz"


MAX_GOLDEN = 1 << 26


@dataclass(frozen=True)
class Golden:
    """Frames with the float model's answers, to prove a backend before it goes live."""

    frames: tuple[Pixels, ...]
    """uint8 ``[H, W, 3]`` each; from the phantom, so that no patient's picture travels."""
    box: Box
    """The box that is judged in each of them."""
    probability: NDArray[np.float32]
    """float32 ``[N, classes]``: what the Keras model answered."""


def golden_tensors(
    frames: Sequence[Pixels], box: Box, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """What a model sees of golden frames, uint8 ``[N, side, side, 1]``.

    The answers are made from these tensors, and held against them on the device.
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


def read_golden(bundle: Bundle) -> Golden:
    """The golden frames of a bundle. Raises BadInput where they are not what they should be."""
    content = io.BytesIO(bundle.read(GOLDEN))
    try:
        with zipfile.ZipFile(content) as packed:
            if sum(info.file_size for info in packed.filelist) > MAX_GOLDEN:
                raise BadInput(f"{bundle.path}: {GOLDEN} is larger than {MAX_GOLDEN:,} bytes")
        with np.load(content, allow_pickle=False) as arrays:
            frames, box = arrays["frames"], arrays["box"]
            probability = arrays["probability"]
    except BadInput:
        raise
    except Exception as error:  # numpy and zipfile raise whatever the bytes lead them to
        raise BadInput(f"{bundle.path}: {GOLDEN} holds no golden frames") from error
    sound = (
        frames.dtype == np.uint8
        and frames.ndim == 4
        and min(frames.shape) >= 1
        and frames.shape[3] == 3
        and box.shape == (4,)
        and box.dtype == np.int64
        and probability.dtype == np.float32
        and probability.ndim == 2
        and probability.shape[0] == frames.shape[0]
        and box.min() >= 0
        and box[0] + box[2] <= frames.shape[2]
        and box[1] + box[3] <= frames.shape[1]
    )
    if not sound:
        raise BadInput(f"{bundle.path}: {GOLDEN} holds no golden frames")
    return Golden(tuple(frames), Box(*box.tolist()), probability)
