"""The bundle in the package, and the public key of the signer."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

from edge_runtime.bundle.archive import SUFFIX, Bundle, open_trusted
from edge_runtime.bundle.trust import read_trusted

SHIPPED_BUNDLE = resources.files("edge_runtime") / f"demo{SUFFIX}"
DEMO_KEYS = resources.files("edge_runtime") / "demo_keys"


@contextmanager
def open_shipped() -> Iterator[Bundle]:
    """The verified bundle in the package; the file exists as long as the block runs."""
    with resources.as_file(SHIPPED_BUNDLE) as path, resources.as_file(DEMO_KEYS) as keys:
        yield open_trusted(path, read_trusted(keys).keys)
