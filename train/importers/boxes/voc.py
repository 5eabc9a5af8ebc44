"""Pascal VOC, and the XML files of labelImg: one file a picture, with all its objects."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from devices.capture.kinds import Kind
from devices.capture.listing import masks_among
from train.importers.boxes.files import Pictures, part_of_folder, read_rooted, read_text
from train.importers.boxes.marking import Found, Mark, Marking, corners_of
from train.importers.dicom import patient_of
from train.importers.voc import Gallery
from train.samples import BOX_COLUMNS, PART_WORDS, Dropped, Part, size_of

SETS = ("ImageSets", "Main")
"""Where VOC lists the names of the pictures of each part."""


def read_voc_boxes(folder: Path, files: Sequence[Path], listed: Sequence[Path]) -> Found:
    """The pictures of VOC files; `listed` are the files in `folder` and its folders.

    The picture of a file is found as for `train.importers.voc`. A file without an object says that
    its picture shows no nodule; a picture without a file is dropped, as is a mask.
    """
    found = Found("Pascal VOC")
    pictures = Pictures(folder, listed, (Kind.IMAGE, Kind.DICOM)).all
    masks = masks_among(pictures, folder)
    found.dropped += [Dropped(str(path), "mask") for path in pictures if path in masks]
    pictures = [path for path in pictures if path not in masks]
    gallery = Gallery(folder, pictures)
    parts = _parts(folder)
    annotated = set[Path]()
    for file in files:
        root = read_rooted(file, "annotation", found.dropped)
        if root is None:
            if (own := gallery.find(file, file.stem)) is not None:
                annotated.add(own)
            continue
        filename = (root.findtext("filename") or "").strip()
        own, named = gallery.find(file, file.stem), gallery.find(file, filename)
        if own and named and own != named:
            found.dropped.append(Dropped(str(file), "names another picture"))
            annotated |= {own, named}
            continue
        path = named or own or gallery.expected(file, filename or file.stem)
        annotated.add(path)
        found.markings.append(
            Marking(
                path=path,
                marks=tuple(_mark(entry) for entry in root.findall("object")),
                group=patient_of(path),
                part=parts.get(path.stem) or part_of_folder(path, folder),
                size=size_of(
                    *(root.findtext(f"size/{side}") or "" for side in ("width", "height"))
                ),
            )
        )
    found.dropped += [Dropped(str(path), "no label") for path in pictures if path not in annotated]
    return found


def _mark(entry: Element) -> Mark:
    words = [entry.findtext(f"bndbox/{corner}") for corner in BOX_COLUMNS]
    return Mark(corners_of(words), (entry.findtext("name") or "").strip())


def _parts(folder: Path) -> dict[str, Part]:
    """The part of each picture that VOC's own lists name, by its name without a suffix."""
    parts: dict[str, Part] = {}
    for word, part in PART_WORDS.items():
        names = read_text(folder.joinpath(*SETS, f"{word}.txt")) if word else None
        if names is not None and part is not None:
            parts |= {line.split()[0]: part for line in names.splitlines() if line.strip()}
    return parts
