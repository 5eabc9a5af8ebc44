"""Samples from folders named after the classes."""

from dataclasses import replace
from pathlib import Path

from devices import BadInput
from devices.capture.dicom import is_dicom, read_header
from devices.capture.kinds import Kind, kind_of
from devices.capture.listing import list_files, masks_among, natural
from train.importers.dicom import spaced_frames
from train.samples import PART_WORDS, Collection, Dropped, Naming, Sample


def read_class_folders(folder: Path, task: Naming) -> Collection:
    """Samples from `CLASS/image` or `CLASS/PATIENT/image`; the patient's folder is the group.

    Without such a folder a DICOM file is of its patient, and each other image is a group of its
    own. Where all folders are called `train`, `val`, `test` or the like, the classes lie in them,
    and they are the split. A moving DICOM file gives frames that are at least `SECONDS_APART`; one
    whose header cannot be read is dropped, as is the mask of a picture (`devices.capture.listing`),
    and what is neither an image nor a DICOM file.
    """
    parts = [path for path in _folders(folder) if any(_folders(path))]
    if parts and all(PART_WORDS.get(path.name.casefold()) for path in parts):
        halves = [_read_classes(path, task, folder) for path in parts]
        samples = [
            replace(sample, part=PART_WORDS[path.name.casefold()])
            for path, half in zip(parts, halves, strict=True)
            for sample in half.samples
        ]
        dropped = [entry for half in halves for entry in half.dropped]
        return Collection(tuple(samples), tuple(dropped), "class folders in a split")
    return _read_classes(folder, task, folder)


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder` that are not hidden, in natural order."""
    inside = (path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    return sorted(inside, key=natural)


def _read_classes(folder: Path, task: Naming, root: Path) -> Collection:
    """Samples of the classes whose folders lie in `folder`; `root` is that of the whole data."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for child in _folders(folder):
        files = list_files(child, recursive=True)
        kinds = {path: kind_of(path) for path in files}
        pictures = [path for path in files if kinds[path] in (Kind.IMAGE, Kind.DICOM)]
        if not pictures and not task.knows(child.name):
            continue
        label = task.label(child.name, str(folder))
        masks = masks_among(pictures, folder)
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
                except BadInput as error:
                    dropped.append(Dropped(str(image), "unreadable", str(error)))
                    continue
                frames, patient = spaced_frames(header), header.patient
            alone = len(inner.parts) == 1
            group = (patient or str(image.relative_to(root))) if alone else inner.parts[0]
            samples += [Sample(image, label, None, group, frame) for frame in frames]
    return Collection(tuple(samples), tuple(dropped), "class folders")
