"""Folders as they lie on disks: order, hidden files, links, masks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.capture.listing import list_files, list_pictures, masks_among, natural
from devices.errors import BadInput

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_numbers_count(tmp_path: Path) -> None:
    make(tmp_path, "img_10.jpg", "img_2.jpg", "img_1.jpg")
    assert [path.name for path in list_pictures(tmp_path)] == [
        *("img_1.jpg", "img_2.jpg", "img_10.jpg")
    ]


@given(numbers=st.lists(st.integers(0, 10**12), unique=True), prefix=st.text("ab_-", max_size=3))
def test_natural_order_is_that_of_the_numbers(numbers: list[int], prefix: str) -> None:
    paths = sorted((Path(f"{prefix}{number}.png") for number in numbers), key=natural)
    assert paths == [Path(f"{prefix}{number}.png") for number in sorted(numbers)]


@given(names=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8), data=st.data())
def test_any_names_have_one_order(names: list[list[str]], data: st.DataObject) -> None:
    paths = [Path(*parts) for parts in names]
    shuffled = data.draw(st.permutations(paths))
    assert sorted(paths, key=natural) == sorted(shuffled, key=natural)


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "._a.png", ".b.png", ".cache/c.png", "d/._e.png", "d/e.png")
    assert list_pictures(tmp_path, recursive=True) == [tmp_path / "a.png", tmp_path / "d/e.png"]


def test_folders_inside_are_entered_where_asked_for(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b/c.png")
    assert list_pictures(tmp_path) == [tmp_path / "a.png"]
    assert list_pictures(tmp_path, recursive=True) == [tmp_path / "a.png", tmp_path / "b/c.png"]


def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "store/p1/a.png", "store/b.png", "data/c.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store" / "p1")
    (tmp_path / "data" / "d.png").symlink_to(tmp_path / "store" / "b.png")
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    files = [
        str(path.relative_to(tmp_path / "data")) for path in list_pictures(tmp_path / "data", True)
    ]
    assert files == ["c.png", "d.png", "gone.png", "linked/a.png"]


def test_a_folder_that_two_ways_lead_to_is_entered_once(tmp_path: Path) -> None:
    make(tmp_path, "p1/a.png")
    (tmp_path / "p2").symlink_to(tmp_path / "p1")
    assert list_files(tmp_path, recursive=True) == [tmp_path / "p1" / "a.png"]


def test_a_link_that_leads_back_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "p1/a.png")
    (tmp_path / "p1" / "again").symlink_to(tmp_path)
    with pytest.raises(BadInput, match=r"again: a link that leads back to"):
        list_files(tmp_path, recursive=True)
    assert list_files(tmp_path / "p1") == [tmp_path / "p1" / "a.png"]


def test_content_decides_and_then_the_name(tmp_path: Path) -> None:
    make(tmp_path, "notes.txt", "broken.png")
    (tmp_path / "IM_0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "scan").write_bytes(b"\x89PNG\r\n\x1a\n")
    names = [path.name for path in list_pictures(tmp_path)]
    assert names == ["broken.png", "IM_0001", "scan"]


@pytest.mark.parametrize(
    "name",
    [
        *("a_mask.png", "a_mask_1.png", "A_MASK2.PNG", "a-mask.tif", "a.mask.png", "mask_a.png"),
        *("a_segmentation.png", "a_seg.png", "a_gt.png", "masks/a.png", "Mask/other.png"),
    ],
)
def test_a_mask_beside_a_picture_is_known(name: str) -> None:
    picture = Path("benign", "A.png" if name.startswith("A") else "a.png")
    assert masks_among([picture, Path("benign", name)], Path()) == {Path("benign", name)}


@pytest.mark.parametrize("name", ["b_mask.png", "masked.png", "a_1.png", "mask.png", "a_gtx.png"])
def test_other_pictures_are_no_masks(name: str) -> None:
    assert masks_among([Path("benign", "a.png"), Path("benign", name)], Path()) == set()


@given(stem=NAMES.filter(lambda name: "." not in name))
def test_whatever_a_picture_is_called_its_mask_is_known(stem: str) -> None:
    picture, mask = Path("c", f"{stem}.png"), Path("c", f"{stem}_mask.png")
    assert masks_among([picture, mask], Path()) == {mask}
