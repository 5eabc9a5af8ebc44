"""A worklist of a department on a free port: the real `wlmscpfs` of dcmtk."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from tests.conftest import free_port, wait_until

WLMSCPFS = shutil.which("wlmscpfs")
TITLE = "MWL"
STUDY = "1.2.826.0.1.4711"


def today() -> str:
    """The day, as the session asks for it; the tests may go on past midnight."""
    return datetime.now().astimezone().date().isoformat()


def write_step(folder: Path, name: str, **attributes: str) -> Path:
    """Writes a scheduled step below the title of the server; attributes replace others."""
    place = folder / TITLE
    place.mkdir(parents=True, exist_ok=True)
    (place / "lockfile").touch()
    step, dataset = Dataset(), Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = uid.UID("1.2.276.0.7230010.3.1.0.1")
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[name])
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Wang^Xiao",
        "PatientID": "4711",
        "PatientBirthDate": "19800501",
        "AccessionNumber": "A-17",
        "StudyInstanceUID": STUDY,
        "RequestedProcedureDescription": "Thyroid",
        "RequestedProcedureID": "R1",
        "Modality": "US",
        "ScheduledStationAETitle": "CART",
        "ScheduledProcedureStepStartDate": today().replace("-", ""),
        "ScheduledProcedureStepStartTime": "083000",
        "ScheduledProcedureStepDescription": "",
        "ScheduledProcedureStepID": "S1",
    } | attributes
    for keyword, value in values.items():
        owner = step if keyword.startswith("Scheduled") or keyword == "Modality" else dataset
        setattr(owner, keyword, value)
    dataset.ScheduledProcedureStepSequence = [step]
    dataset.save_as(place / f"{name}.wl", enforce_file_format=True)
    return place / f"{name}.wl"


@contextmanager
def worklist_server(folder: Path) -> Iterator[int]:
    """Serves the steps of a folder; gives the port."""
    assert WLMSCPFS is not None
    port = free_port()
    words = [WLMSCPFS, "-s", "-csk", "-dfr", "-dfp", str(folder), str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(listens)
        yield port
    finally:
        process.kill()
        process.wait()
