"""Inputs that are made of sound ones by small changes, by a seed."""

import random
import re
from collections.abc import Sequence

PIECES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\n",
        b"\r\n",
        b'"',
        b"'",
        b",",
        b";",
        b"..",
        b"/",
    ),
    *(b"null", b"true", b"[]", b"{}", b"NaN", b"Infinity", b"\xed\xa0\x80", b"\xc0\xaf", b"%00"),
    *(b"<!DOCTYPE a [<!ENTITY b 'cc'>]>&b;", b"\x1b[2J", b"=1+1", b"${HOME}", b"/dev/zero"),
    *(b"[" * 3000, b'{"a":' * 3000, b"A" * 5000, b"9" * 5000, b"<a>" * 3000),
)
"""What a place of an input may become."""
NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483648", b"9223372036854775808"),
    *(b"1e999", b"-1e999", b"1e-999", b"0.0000001", b"nan", b"9" * 400, b"9" * 5000, b"0x10"),
)
"""What a number of an input may become."""
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")


def mutate(content: bytes, seeds: Sequence[bytes], number: int) -> bytes:
    """The input of a number: `content` with one to four changes; the same for the same number."""
    rng = random.Random(number)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _change(changed, seeds, rng)
    return bytes(changed)


def _change(changed: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    start = rng.randrange(len(changed) + 1)
    end = min(len(changed), start + rng.choice((0, 1, 1, 2, 4, 8, 60)))
    match rng.randrange(8):
        case 0:  # some bits
            for place in range(start, end):
                changed[place] ^= 1 << rng.randrange(8)
        case 1:
            changed[start:end] = rng.randbytes(end - start)
        case 2:
            changed[start:end] = rng.choice(PIECES)
        case 3:  # cut off
            del changed[start:]
        case 4:  # repeated
            changed[start:start] = changed[start:end] * rng.choice((1, 2, 100))
        case 5:
            del changed[start:end]
        case 6:  # the end of another
            other = rng.choice(seeds)
            changed[start:] = other[rng.randrange(len(other) + 1) :]
        case 7:
            matches = list(_NUMBER.finditer(changed[: 1 << 16]))
            if matches:
                match = rng.choice(matches)
                changed[match.start() : match.end()] = rng.choice(NUMBERS)
