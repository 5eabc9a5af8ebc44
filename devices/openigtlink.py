"""The parts of OpenIGTLink that the source `igtl://` reads and the sink `igtl:` writes.

The documents of the protocol (openigtlink.org; github.com/openigtlink/OpenIGTLink,
Documents/Protocol) describe a header of 58 bytes, `header.md`; from header version 2 on an extended
header before and metadata behind the content, `v3_proposal.md`; and the content of each type:
`image.md`, `point.md`, `polydata.md`, `string.md`. Protocol versions 1 and 2 have header version 1,
protocol version 3 has 2; some libraries write 3 for it. All numbers are big-endian.
"""

from struct import Struct

from fastcrc.crc64 import ecma_182

PORT = 18944
"""Registered for OpenIGTLink."""
HEADER = Struct(">H 12s 20s Q Q Q")
"""Version, type, device name, time stamp, size of the body, and the body's CRC."""
EXTENDED = Struct(">H H I 4x")
"""Sizes of itself, of the metadata's index, and of the metadata; the number of the message."""
IMAGE = Struct(">H 4B 3H 12f 3H 3H")
"""Version, components, scalar type, byte order, coordinate system; size; matrix; offset and size of
the part that is sent."""
NAME_BYTES = 20
"""The reference implementation cuts longer names."""
UINT8 = 3
"""The scalar type of bytes."""


def pack_message(kind: str, device: str, unix_seconds: float, body: bytes) -> bytes:
    """A message of header version 1, which every receiver knows.

    The time stamp is seconds since 1970 in 32.32 bits of fixed point.
    """
    stamp = int(unix_seconds * 2**32) & (2**64 - 1)
    name = device.encode()[:NAME_BYTES]
    return HEADER.pack(1, kind.encode(), name, stamp, len(body), ecma_182(body)) + body
