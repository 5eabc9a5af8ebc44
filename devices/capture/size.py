"""The limits for the size of a picture."""

from devices.errors import BadInput

MIN_SIDE = 32
"""Pixels; nobody could judge a smaller picture."""
MAX_PIXELS = 64_000_000
"""More than any scanner delivers; unpacked it is 192 MB, which a small board can hold."""
MAX_MOVING_PIXELS = 1 << 24
"""Of a video or a stream, whose decoder holds several pictures: twice a screen of 3840 x 2160. A
decoder of more took 0.8 GB for a file of 15 kB."""


def check_size(name: object, width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Raises BadInput for a picture that is too small or too large; the message names `name`."""
    if min(width, height) < MIN_SIDE:
        raise BadInput(
            f"{name}: {width} x {height} pixels are too few; at least {MIN_SIDE} x {MIN_SIDE}"
        )
    if width * height > limit:
        raise BadInput(f"{name}: {width} x {height} pixels are too many; at most {limit:,} in all")
