"""Near duplicates on two sides of a given split: listed, refused, or dropped and counted."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from tests.conftest import refused, sonolite
from train.duplicates import SIDE, Pair
from train.leaks import leaks_table, settle_leaks
from train.loading import Loaded, Patch
from train.run import read_record
from train.samples import PARTS, Part, Sample

ROOT = Path("/d")


def loaded_of(*parts: Part) -> Loaded:
    """Samples a, b, c... of these parts, each with a patch of its own number."""
    samples = tuple(
        Sample(ROOT / f"{chr(97 + place)}.png", "benign", None, f"g{place}", part=part)
        for place, part in enumerate(parts)
    )
    numbers = range(len(parts))
    return Loaded(
        samples,
        tuple(Patch(np.full((2, 2), number, np.uint8), None) for number in numbers),
        tuple(np.full((SIDE, SIDE), number, np.uint8) for number in numbers),
        tuple(f"{number}x{number}" for number in numbers),
        (),
    )


def pair(first: int, second: int) -> Pair:
    return Pair(first, second, 2, 0.75)


def test_pairs_on_one_side_are_left_as_they_are(tmp_path: Path) -> None:
    loaded, table = loaded_of("train", "train", "test"), tmp_path / "a.csv"
    assert settle_leaks(loaded, [pair(0, 1)], ROOT, table, drop=False) == (loaded, (pair(0, 1),))
    assert not table.exists()


def test_leaks_are_refused_by_name_and_all_of_them_listed(tmp_path: Path) -> None:
    parts: list[Part] = ["train", "test"]
    loaded = loaded_of(*parts * 12)
    pairs = [pair(place, place + 1) for place in range(0, 24, 2)]
    table = tmp_path / "run.leaks.csv"
    with pytest.raises(BadInput) as refusal:
        settle_leaks(loaded, pairs, ROOT, table, drop=False)
    line = str(refusal.value)
    assert "two sides of the split: /d/a.png (train) and /d/b.png (test); /d/c.png" in line
    assert f"; and 2 more; all 12 pairs are in {table}; --drop-leaks drops" in line
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 12
    assert rows[11] == {
        "drop_path": "w.png",
        "drop_frame": "0",
        "drop_split": "train",
        "keep_path": "x.png",
        "keep_frame": "0",
        "keep_split": "test",
        "likeness": "0.750",
    }


@given(data=st.data(), parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=12))
def test_what_is_dropped_leaves_no_leak_and_no_test_image_goes(
    data: st.DataObject, parts: list[Part]
) -> None:
    place = st.integers(0, len(parts) - 1)
    links = data.draw(st.sets(st.tuples(place, place).filter(lambda link: link[0] < link[1])))
    pairs = [pair(*link) for link in sorted(links)]
    before = loaded_of(*parts)
    after, left = settle_leaks(before, pairs, ROOT, None, drop=True)
    gone = {Path(entry.path) for entry in after.dropped}
    assert {entry.reason for entry in after.dropped} <= {"duplicate across the split"}
    assert gone.isdisjoint(sample.path for sample in before.samples if sample.part == "test")

    def least(link: tuple[int, int]) -> Path:
        return before.samples[min(link, key=lambda place: PARTS.index(parts[place]))].path

    needless = gone - {least(link) for link in links if parts[link[0]] != parts[link[1]]}
    assert not needless
    assert len(after.samples) + len(gone) == len(parts)
    for sample, patch, scanner in zip(after.samples, after.patches, after.scanners, strict=True):
        number = before.samples.index(sample)
        assert patch is before.patches[number]
        assert scanner == f"{number}x{number}"
    for entry in left:
        assert after.samples[entry.first].part == after.samples[entry.second].part
    kept = {link for link in links if not gone & {before.samples[place].path for place in link}}
    assert {
        (
            before.samples.index(after.samples[entry.first]),
            before.samples.index(after.samples[entry.second]),
        )
        for entry in left
    } == kept


@pytest.mark.slow
def test_a_published_split_with_leaks_is_trained_on_without_them(
    tmp_path: Path, labelled: Path, one_epoch: Path
) -> None:
    """Run, report and card say how many; without the option nothing is made but the list."""
    images = Path(shutil.copytree(labelled, tmp_path / "images"))
    lines = (images / "manifest.csv").read_text().splitlines()
    table = images / "published.csv"
    split = {"benign": 0, "malignant": 0}
    rows = [f"{lines[0]},split"]
    for line in lines[1::2]:
        label = line.split(",")[1]
        part = PARTS[split[label] % 3]
        split[label] += 1
        rows.append(f"{line},{part}")
    first = next(row for row in rows[1:] if row.endswith(",test"))
    shutil.copy(images / first.split(",")[0], images / "copy.png")
    path, *rest = first.split(",")
    rows.append(",".join(["copy.png", *rest[:-2], "copied", "train"]))
    table.write_text("\n".join(rows))
    out = tmp_path / "runs" / "run"
    out.parent.mkdir()
    words = ("train", table, "--recipe", one_epoch, "--out", out)
    refused(sonolite(*words), "copy.png (train) and", path, str(leaks_table(out)))
    assert [entry.name for entry in out.parent.iterdir()] == ["run.leaks.csv"]
    assert "copy.png" in leaks_table(out).read_text()
    done = sonolite(*words, "--drop-leaks")
    assert done.code == 0, done
    assert "data: table, 2 classes, 31 images" in done.stderr
    assert "1 dropped: duplicate across the split" in done.stderr
    bundle = tmp_path / "a.sonolite"
    assert sonolite("convert", out, "--out", bundle, "--variants", "float32").code == 0
    assert read_record(out).data.dropped == {"duplicate across the split": 1}
    assert "where the other tests: 1." in (out / "report.html").read_text()
    card = " ".join(sonolite("inspect", bundle).stdout.split())
    assert "near duplicates on two sides; of these images 1 were dropped for it" in card
