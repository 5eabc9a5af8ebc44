"""Samples from a Pascal VOC folder."""

from pathlib import Path

from devices import BadInput
from train.importers.xml import read_xml
from train.samples import BOX_COLUMNS, Collection, Dropped, Sample, Task, box_between


def read_voc(folder: Path, task: Task) -> Collection:
    """Samples from Pascal VOC's layout: the first object of each file in `Annotations/`.

    VOC knows no patients, so that each image is a group of its own; a `manifest.csv` with a
    `group` column is better wherever neighbouring images can be of one patient. A file that cannot
    be read is dropped, as is one whose object is missing or has no name.
    """
    samples, dropped = [], []
    for file in sorted((folder / "Annotations").glob("*.xml")):
        root = read_xml(file)
        if root is None:
            dropped.append(Dropped(str(file), "unreadable"))
            continue
        marked = root.find("object")
        name = "" if marked is None else (marked.findtext("name") or "").strip()
        if marked is None or not name:
            dropped.append(Dropped(str(file), "no label"))
            continue
        corners = [marked.findtext(f"bndbox/{corner}") or "" for corner in BOX_COLUMNS]
        image = folder / "JPEGImages" / (root.findtext("filename") or f"{file.stem}.jpg")
        if image.parent.resolve() != (folder / "JPEGImages").resolve():
            raise BadInput(f"{file}: the image lies outside JPEGImages")
        label, box = task.label(name, str(file)), box_between(corners, str(file))
        samples.append(Sample(image, label, box, group=file.stem))
    return Collection(tuple(samples), tuple(dropped))
