"""Programs and objects that send to a listener."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.devices.capture.dicom_files import GREY, write_dicom

# In an active venv a program of pynetdicom with this name comes first.
elsewhere = [folder for folder in os.get_exec_path() if folder != str(Path(sys.executable).parent)]

storescu = shutil.which("storescu", path=os.pathsep.join(elsewhere))

STILL = {"SOPClassUID": uid.UltrasoundImageStorage, "PatientName": "Doe^Jane"}


def send(
    port: int, *paths: Path, calling: str = "CART", called: str = "SONOLITE", coding: str = "-xy"
) -> "subprocess.CompletedProcess[str]":
    """Sends files as a scanner does; what it was told is in stdout."""
    assert storescu is not None
    words = [storescu, "-v", "-aet", calling, "-aec", called, coding, "127.0.0.1", str(port)]
    return subprocess.run(
        [*words, *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )


def panics(path: Path) -> Path:
    """An RLE frame of 16 bits with a byte too many, at which the decoder panics."""
    whole, more = (bytes([129, 0]) * 18 + bytes([257 - rest, 0]) for rest in (96, 97))
    frame = struct.pack("<16I", 2, 64, 64 + len(whole), *[0] * 13) + whole + more
    return write_dicom(
        path,
        GREY.astype(np.uint16),
        **STILL,
        TransferSyntaxUID=uid.RLELossless,
        PixelData=encapsulate([frame]),
    )
