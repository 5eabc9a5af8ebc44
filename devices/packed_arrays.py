"""Reads NumPy's `.npz` files within limits: a small file may hold arrays of any size."""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack_arrays(content: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name; of no more than `limit` bytes together.

    Raises ValueError where it is larger, holds objects, or is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    left = limit
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(info.file_size for info in packed.filelist) > limit:
                raise ValueError(f"more than {limit:,} bytes of arrays")
            for info in packed.filelist:
                with packed.open(info) as file:
                    left -= _size(file)
                    if left < 0:
                        raise ValueError(f"more than {limit:,} bytes of arrays")
                with packed.open(info) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                    arrays[info.filename.removesuffix(".npy")] = array
    except ValueError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds of errors for damaged bytes
        raise ValueError("damaged") from error
    return arrays


def _size(file: Any) -> int:
    """The bytes that the header of an array announces, which NumPy takes before it reads."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, kind = np.lib.format.read_array_header_2_0(file)
    return int(kind.itemsize) * int(np.prod(shape, dtype=object))
