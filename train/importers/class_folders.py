"""Samples from folders named after the classes."""

from pathlib import Path

from devices import BadInput
from devices.capture.dicom import is_dicom, read_header
from devices.capture.kinds import Kind, kind_of
from devices.capture.listing import list_files, masks_among, natural
from train.importers.dicom import spaced_frames
from train.samples import Collection, Dropped, Naming, Sample


def read_class_folders(folder: Path, task: Naming) -> Collection:
    """Samples from `CLASS/image` or `CLASS/PATIENT/image`; the patient's folder is the group.

    Without such a folder a DICOM file is of its patient, and each other image is a group of its
    own. A moving DICOM file gives frames that are at least `SECONDS_APART`; one whose header
    cannot be read is dropped, as is the mask of a picture (`devices.capture.listing`), and what is
    neither an image nor a DICOM file.
    """
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for child in sorted(folder.iterdir(), key=natural):
        if not child.is_dir() or child.name.startswith("."):
            continue
        files = list_files(child, recursive=True)
        kinds = {path: kind_of(path) for path in files}
        pictures = [path for path in files if kinds[path] in (Kind.IMAGE, Kind.DICOM)]
        if not pictures and not task.knows(child.name):
            continue
        label = task.label(child.name, str(folder))
        masks = masks_among(pictures)
        dropped += [Dropped(str(path), "mask") for path in pictures if path in masks]
        strangers = set(files) - set(pictures)
        dropped += [
            Dropped(str(path), "unknown kind of file") for path in files if path in strangers
        ]
        for image in pictures:
            if image in masks:
                continue
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
    return Collection(tuple(samples), tuple(dropped), "class folders")
