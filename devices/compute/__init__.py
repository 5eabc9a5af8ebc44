"""Backends that run a model, one file for each."""

from devices.compute.backend import Backend, BackendKind, Compute, Outputs
from devices.compute.cpu import CpuBackend
from devices.compute.delegate import EDGETPU, DelegateBackend
from devices.compute.gpu import GpuBackend

__all__ = [
    "EDGETPU",
    "Backend",
    "BackendKind",
    "Compute",
    "CpuBackend",
    "DelegateBackend",
    "GpuBackend",
    "Outputs",
]
