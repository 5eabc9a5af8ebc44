"""Tensors through: backends that run a model, one file each."""

from devices.compute.backend import Backend, Compute, Kind, Outputs
from devices.compute.cpu import CpuBackend

__all__ = ["Backend", "Compute", "CpuBackend", "Kind", "Outputs"]
