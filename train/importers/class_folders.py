"""Samples from folders named after the classes."""

from pathlib import Path

from devices import BadInput
from devices.capture import DICOM, IMAGES
from devices.capture.dicom import is_dicom, read_header
from train.importers.dicom import spaced_frames
from train.samples import Collection, Dropped, Sample, Task

KINDS = IMAGES | DICOM


def read_class_folders(folder: Path, task: Task) -> Collection:
    """Samples from `CLASS/image` or `CLASS/PATIENT/image`; the patient's folder is the group.

    Without such a folder a DICOM file is of its patient, and each other image is a group of its
    own. A moving DICOM file gives frames that are at least `SECONDS_APART`; one whose header
    cannot be read is dropped, as is what is named as neither an image nor a DICOM file.
    """
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        files = sorted(
            its
            for its in child.rglob("*")
            if its.is_file() and not any(part[0] == "." for part in its.relative_to(child).parts)
        )
        images = [path for path in files if path.suffix.lower() in KINDS]
        if not images and child.name not in {*task.labels, *task.aliases}:
            continue
        label = task.label(child.name, str(folder))
        dropped += [
            Dropped(str(its), "unknown kind of file")
            for its in files
            if its.suffix.lower() not in KINDS
        ]
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
