"""Samples from folders named after the classes."""

from pathlib import Path

from devices import BadInput
from devices.capture import DICOM, IMAGES
from devices.capture.dicom import is_dicom, read_header
from train.importers.dicom import spaced_frames
from train.samples import Collection, Dropped, Sample, Task


def read_class_folders(folder: Path, task: Task) -> Collection:
    """Samples from `CLASS/image` or `CLASS/PATIENT/image`; the patient's folder is the group.

    Without such a folder a DICOM file is of its patient, and each other image is a group of its
    own. A moving DICOM file gives frames that are at least `SECONDS_APART`; one whose header
    cannot be read is dropped.
    """
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        files = sorted(child.rglob("*"))
        images = [path for path in files if path.suffix.lower() in IMAGES | DICOM]
        label = task.label(child.name, str(folder)) if images else ""
        for image in images:
            inner = image.relative_to(child)
            frames, patient = [0], None
            if is_dicom(image):
                try:
                    header = read_header(image)
                except BadInput:
                    dropped.append(Dropped(str(image), "unreadable"))
                    continue
                frames, patient = spaced_frames(header), header.patient
            alone = len(inner.parts) == 1
            group = (patient or f"{child.name}/{inner}") if alone else inner.parts[0]
            samples += [Sample(image, label, None, group, frame) for frame in frames]
    return Collection(tuple(samples), tuple(dropped))
