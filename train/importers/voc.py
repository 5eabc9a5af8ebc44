"""Samples from Pascal VOC's XML files, in its own folders or beside the pictures."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from devices import BadInput
from devices.capture.kinds import DICOM, IMAGES
from devices.capture.listing import list_files, list_pictures, masks_among
from train.importers.dicom import patient_of
from train.importers.xml import read_xml
from train.samples import BOX_COLUMNS, Collection, Dropped, Naming, Sample, box_between, size_of


def read_voc(folder: Path, task: Naming) -> Collection:
    """Samples from each object of each `<annotation>`, wherever in `folder` its XML file lies.

    The picture of `a/7.xml` is the one of its `<filename>`, with or without a suffix, or else the
    one called 7: beside it, in `JPEGImages/`, or the only one of that name in all folders. VOC
    knows no patients, so that each image is a group of its own unless it is a DICOM file; a
    `manifest.csv` with a `group` column is better wherever neighbouring images can be of one
    patient. Dropped are a file that cannot be read, that marks no object, or whose `<filename>` is
    another picture than the one called as it; an object without a name; a picture without an XML
    file; and a mask.
    """
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    files = [path for path in list_files(folder, recursive=True) if path.suffix.lower() == ".xml"]
    pictures = list_pictures(folder, recursive=True)
    masks = masks_among(pictures, folder)
    dropped += [Dropped(str(path), "mask") for path in pictures if path in masks]
    gallery = Gallery(folder, (path for path in pictures if path not in masks))
    annotated: set[Path] = set()
    for file in files:
        root = read_xml(file)
        if root is None:
            dropped.append(Dropped(str(file), "unreadable"))
            continue
        if root.tag != "annotation":
            dropped.append(Dropped(str(file), "unknown kind of file"))
            continue
        filename = (root.findtext("filename") or "").strip()
        own, named = gallery.find(file, file.stem), gallery.find(file, filename)
        if own and named and own != named:
            dropped.append(Dropped(str(file), "names another picture"))
            annotated |= {own, named}
            continue
        image = named or own or gallery.expected(file, filename or file.stem)
        annotated.add(image)
        group = patient_of(image) or name_in(file, folder)
        here, reasons = _objects(root, file, image, group, task)
        samples += here
        dropped += reasons
    left = (path for path in pictures if path not in annotated and path not in masks)
    dropped += [Dropped(str(path), "no label") for path in left]
    return Collection(tuple(samples), tuple(dropped), "Pascal VOC")


def _objects(
    root: Element, file: Path, image: Path, group: str, task: Naming
) -> tuple[list[Sample], list[Dropped]]:
    """The objects that an annotation marks in `image`."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    marked = root.findall("object")
    if not marked:
        dropped.append(Dropped(str(file), "no label"))
    size = size_of(*(root.findtext(f"size/{side}") or "" for side in ("width", "height")))
    for entry in marked:
        name = (entry.findtext("name") or "").strip()
        if not name:
            dropped.append(Dropped(str(file), "no label"))
            continue
        corners = [entry.findtext(f"bndbox/{corner}") or "" for corner in BOX_COLUMNS]
        label, box = task.label(name, str(file)), box_between(corners, str(file))
        samples.append(Sample(image, label, box, group, size=size))
    return samples, dropped


def name_in(file: Path, folder: Path) -> str:
    """An annotation's own name; with the folders around it, where they are not VOC's."""
    inner = file.relative_to(folder).with_suffix("")
    return inner.name if len(inner.parts) == 1 or inner.parts[0] == "Annotations" else str(inner)


class Gallery:
    """The pictures of a data set, to be found by the names that annotations give them."""

    def __init__(self, folder: Path, pictures: Iterable[Path]) -> None:
        """`pictures` lie in `folder` and the folders in it."""
        self._images = folder / "JPEGImages"
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in pictures:
            by_stem[path.stem].append(path)
        self._by_stem: Mapping[str, list[Path]] = by_stem

    def find(self, file: Path, name: str) -> Path | None:
        """The picture that the annotation `file` calls `name`; None where there is none.

        Folders in the name count for nothing: they are of the machine that wrote the file. Raises
        BadInput where several pictures are called so.
        """
        last = PurePosixPath(name.replace("\\", "/")).name
        pictures = self._by_stem.get(last, [])
        if not pictures and Path(last).suffix.lower() in IMAGES | DICOM:
            pictures = self._by_stem.get(Path(last).stem, [])
        if exact := [path for path in pictures if path.name == last]:
            pictures = exact
        for place in (file.parent, self._images):
            if near := [path for path in pictures if path.parent == place]:
                pictures = near
                break
        if len(pictures) > 1:
            names = " and ".join(str(path) for path in pictures[:2])
            raise BadInput(f"{file}: {name!r} may be {names}; rename one, and its annotation")
        return pictures[0] if pictures else None

    def expected(self, file: Path, name: str) -> Path:
        """Where a picture that is missing would lie."""
        last = PurePosixPath(name.replace("\\", "/")).name
        place = self._images if self._images.is_dir() else file.parent
        return place / (last if Path(last).suffix else f"{last}.jpg")
