"""Arrays are unpacked within limits, whatever the headers of the file announce."""

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from devices.packed_arrays import unpack_arrays


def packed(**arrays: Any) -> bytes:
    written = io.BytesIO()
    np.savez_compressed(written, **arrays)
    return written.getvalue()


def test_arrays_are_read_by_name() -> None:
    arrays = unpack_arrays(packed(a=np.arange(6).reshape(2, 3), b=np.float32(2)), 1000)
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert float(arrays["b"]) == 2


def test_a_small_file_does_not_become_large() -> None:
    content = packed(a=np.zeros(1 << 26, np.uint8))
    assert len(content) < 1 << 17
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        unpack_arrays(content, 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_the_header_of_an_array_does_not_take_memory() -> None:
    """The archive tells a small size, and the header of the array within it a large one."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (90000000000,), }"
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(100)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a.npy", member)
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        unpack_arrays(written.getvalue(), 1_000_000)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", packed(a=np.arange(9))[:-30]])
def test_what_is_damaged_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        unpack_arrays(content, 1000)


def test_objects_are_not_unpickled() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        unpack_arrays(packed(a=np.array([{}])), 1000)
