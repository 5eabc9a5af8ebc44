"""TFLite through a delegate: a vendor's library that takes operators off the CPU.

The libraries for the Edge TPU (`libedgetpu.so.1`), NXP (`libvx_delegate.so`), Arm Ethos-U and Mali,
and others load in the same way: by a path and options.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

from devices.compute.backend import BackendKind, Compute
from devices.compute.interpreter import Interpreter, find_interpreter, first_line
from devices.errors import BadInput, HardwareMissing
from devices.quiet import quiet

EDGETPU = "libedgetpu.so.1"
"""The library in the Debian package of coral.ai; the loader finds it by this name."""
DELEGATE_OPERATOR = "DELEGATE"
"""The name of the operator that stands for a part of the graph on a delegate."""


class DelegateBackend(Interpreter):
    """One model on a delegate; other operators run on one thread of the CPU."""

    def __init__(
        self,
        model: bytes,
        name: str,
        library: str,
        options: Mapping[str, str] | None = None,
        kind: BackendKind = "delegate",
    ) -> None:
        """Opens `model`, the verified bytes of the bundle's member `name`.

        Raises HardwareMissing where the library cannot be loaded or does not find its hardware,
        BadInput where it refuses the model or takes no operator, because then only the CPU would
        compute.
        """
        module, _ = find_interpreter()
        try:
            with quiet():
                # Where the library is missing, load_delegate would fail once more when it is freed.
                ctypes.CDLL(library)
                delegate = module.load_delegate(library, dict(options or {}))
        except OSError as error:
            raise HardwareMissing(f"{library}: cannot be loaded: {first_line(error)}") from error
        except ValueError as error:
            reason = " ".join(str(error).splitlines()[1:]) or "it does not say why"
            raise HardwareMissing(f"{library}: refuses to start: {reason}") from error
        super().__init__(model, name, threads=1, delegates=[delegate])
        share = delegated_share(self.operators)
        if share == 0:
            raise BadInput(f"{name}: {library} takes none of its operators")
        self.compute = Compute(kind, self.library, name, threads=1, share=share)


def delegated_share(operators: Sequence[Mapping[str, Any]]) -> float:
    """The share of the operators of a model that run on a delegate, 0..1; NaN for an empty list.

    An interpreter lists the operators of the model, then one operator for each part on a delegate.
    The delegate runs the operators between the inputs and the outputs of that part.
    """
    own = [operator for operator in operators if operator["op_name"] != DELEGATE_OPERATOR]
    maker = {int(tensor): n for n, operator in enumerate(own) for tensor in operator["outputs"]}
    delegated: set[int] = set()
    for part in operators:
        if part["op_name"] != DELEGATE_OPERATOR:
            continue
        known = {int(tensor) for tensor in part["inputs"]}
        wanted = [int(tensor) for tensor in part["outputs"]]
        while wanted:
            tensor = wanted.pop()
            number = maker.get(tensor)
            if tensor in known or number is None or number in delegated:
                continue
            delegated.add(number)
            wanted.extend(int(index) for index in own[number]["inputs"])
    return len(delegated) / len(own) if own else math.nan
