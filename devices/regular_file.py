"""Reads regular files alone: a pipe in the place of a file would wait for a writer for ever."""

import os
import stat
from pathlib import Path

from devices.errors import BadInput

MAX_BYTES = 16 << 20
"""Bytes of a file of settings or results; a larger file is none."""
MAX_TABLE, MAX_MODEL = 256 << 20, 1 << 30
"""Bytes of a table of pictures, and of a model that was trained."""


def require_regular(path: Path) -> None:
    """Raises BadInput where something lies at `path` that is no regular file."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: not a regular file")


def read_regular(path: Path, limit: int = MAX_BYTES, private: bool = False) -> bytes:
    """The content of a file, opened without waiting.

    Raises FileNotFoundError without one, and BadInput where it is no regular file, cannot be read,
    is larger than `limit` bytes, or is `private` and another user may read it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: not a regular file")
        if private and status.st_mode & 0o077:
            raise BadInput(f"{path}: must be a file that only its owner reads (mode 600)")
        if status.st_size > limit:
            raise BadInput(f"{path}: larger than {limit:,} bytes")
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    finally:
        os.close(handle)
