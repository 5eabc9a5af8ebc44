"""Samples from a Pascal VOC folder."""

from pathlib import Path

from devices import BadInput
from train.importers.xml import read_xml
from train.samples import BOX_COLUMNS, Collection, Dropped, Sample, Task, box_between


def read_voc(folder: Path, task: Task) -> Collection:
    """Samples from Pascal VOC's layout: each object of each file in `Annotations/`.

    VOC knows no patients, so that each image is a group of its own; a `manifest.csv` with a
    `group` column is better wherever neighbouring images can be of one patient. A file that cannot
    be read or marks no object is dropped, and so is an object without a name. An image that is
    named without its suffix is the one that is named as its annotation.
    """
    samples, dropped, images = [], [], folder / "JPEGImages"
    for file in sorted((folder / "Annotations").glob("*.xml")):
        root = read_xml(file)
        if root is None:
            dropped.append(Dropped(str(file), "unreadable"))
            continue
        image = images / (root.findtext("filename") or f"{file.stem}.jpg")
        if image.parent.resolve() != images.resolve():
            raise BadInput(f"{file}: the image lies outside JPEGImages")
        if not image.suffix:
            image = images / f"{file.stem}.jpg"
        marked = root.findall("object")
        if not marked:
            dropped.append(Dropped(str(file), "no label"))
        for its in marked:
            name = (its.findtext("name") or "").strip()
            if not name:
                dropped.append(Dropped(str(file), "no label"))
                continue
            corners = [its.findtext(f"bndbox/{corner}") or "" for corner in BOX_COLUMNS]
            label, box = task.label(name, str(file)), box_between(corners, str(file))
            samples.append(Sample(image, label, box, group=file.stem))
    return Collection(tuple(samples), tuple(dropped))
