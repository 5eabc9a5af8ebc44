"""Tensors through: backends that run a model, one file each."""

from devices.compute.backend import Backend, Compute, Kind, Outputs
from devices.compute.cpu import CpuBackend
from devices.compute.gpu import GpuBackend

__all__ = ["Backend", "Compute", "CpuBackend", "GpuBackend", "Kind", "Outputs"]
