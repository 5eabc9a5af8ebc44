"""The runtime: frames and a bundle in, decisions out.

The Python interface is what `__all__` names; see `edge_runtime.api` for how to use it. Everything
else is private, and free to move.
"""

import importlib
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
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


def load_sibling(name: str) -> None:
    """Loads the package that was installed beside this one, whatever the path holds of its name.

    `devices`, `train` and `convert` are names that a person's own files may have, too; Python would
    prefer a file in the folder where it was started. Raises ImportError where such a file has been
    imported already, and ModuleNotFoundError where there is no such package.
    """
    parent = Path(__file__).parents[1]
    if (loaded := sys.modules.get(name)) is not None:
        where = Path(getattr(loaded, "__file__", None) or "unknown")
        if where.parent.parent != parent:
            raise ImportError(
                f"{where} was imported as `{name}`, the name of a package of sonolite; import "
                "edge_runtime before it, or give the file another name"
            )
        return
    spec = PathFinder.find_spec(name, [str(parent)])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no package {name} beside edge_runtime", name=name)
    sys.modules[name] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


load_sibling("devices")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "devices")
    return getattr(importlib.import_module(home), name)
