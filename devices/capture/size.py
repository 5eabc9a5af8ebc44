"""Which sizes of picture are taken at all."""

from devices.errors import BadInput

MIN_SIDE = 32
"""Smaller than this is no picture that anyone could judge."""
MAX_PIXELS = 64_000_000
"""More than any scanner delivers; 192 MB once unpacked, which a small board still survives."""


def check_size(name: object, width: int, height: int) -> None:
    """Raises BadInput for a picture too small to judge or too large to hold; `name` is shown."""
    if min(width, height) < MIN_SIDE:
        raise BadInput(
            f"{name}: {width} x {height} pixels are too few; at least {MIN_SIDE} x {MIN_SIDE}"
        )
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"{name}: {width} x {height} pixels are too many; at most {MAX_PIXELS:,} in all"
        )
