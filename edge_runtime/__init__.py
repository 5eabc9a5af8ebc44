"""The runtime: frames and a bundle in, decisions out.

The Python interface is what `__all__` names; see `edge_runtime.api` for how to use it. Everything
else is private, and free to move.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices import (
        BadInput,
        Box,
        CaptureDevice,
        DeviceLost,
        DeviceStalled,
        EndOfRecording,
        Frame,
        HardwareMissing,
        SonoliteError,
    )
    from edge_runtime.api import (
        Model,
        classify_source,
        load_bundle,
        load_shipped_bundle,
        results_of,
    )
    from edge_runtime.bundle.archive import Bundle
    from edge_runtime.results.result import Nodule, Result
    from edge_runtime.results.states import State
    from edge_runtime.results.summary import Summary
    from edge_runtime.sinks.sink import Sink

__all__ = [
    "BadInput",
    "Box",
    "Bundle",
    "CaptureDevice",
    "DeviceLost",
    "DeviceStalled",
    "EndOfRecording",
    "Frame",
    "HardwareMissing",
    "Model",
    "Nodule",
    "Result",
    "Sink",
    "SonoliteError",
    "State",
    "Summary",
    "classify_source",
    "load_bundle",
    "load_shipped_bundle",
    "results_of",
]

_HOMES = {
    "edge_runtime.api": (
        *("Model", "classify_source", "load_bundle", "load_shipped_bundle", "results_of"),
    ),
    "edge_runtime.bundle.archive": ("Bundle",),
    "edge_runtime.results.result": ("Nodule", "Result"),
    "edge_runtime.results.states": ("State",),
    "edge_runtime.results.summary": ("Summary",),
    "edge_runtime.sinks.sink": ("Sink",),
}
"""Where the public names stand that are not of `devices`: each is loaded when it is asked for, so
that the command line does not pay for the interface."""

# OpenBLAS reads this when NumPy is first imported. The only matrix here is a model's scope, a few
# hundred numbers a side: threads for it would spin on the other cores from one frame to the next.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class _Siblings(MetaPathFinder):
    """Finds the packages that were installed beside this one, whatever the path holds of the name.

    `devices`, `train` and `convert` are names that a person's own files may have, too; Python would
    prefer a file in the folder where it was started.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._parent = str(Path(__file__).parents[1])

    def claim(self, name: str) -> None:
        """Finds `name` here from now on.

        Raises ImportError where another module of that name has been imported already.
        """
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).parents[1] != Path(self._parent):
            raise ImportError(
                f"{loaded} was imported as `{name}`, the name of a package of sonolite; import "
                "edge_runtime before it, or give the file another name"
            )
        self.names.add(name)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The package beside this one, where its name was claimed and it is there."""
        if fullname not in self.names:
            return None
        return PathFinder.find_spec(fullname, [self._parent])


# Whoever uses the package says where its log records go.
logging.getLogger(__name__).addHandler(logging.NullHandler())

siblings = _Siblings()
sys.meta_path.insert(0, siblings)
siblings.claim("devices")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "devices")
    return getattr(importlib.import_module(home), name)
