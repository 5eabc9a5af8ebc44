"""`sonolite sector`, as a user calls it, and what `run` makes of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.screen.saved_regions import read_saved_regions, saved_regions_file
from tests.conftest import refused, sonolite

PHANTOM = "phantom:?frames=30&live=no"


@pytest.fixture(autouse=True)
def _nothing_saved() -> Iterator[None]:
    yield
    saved_regions_file().unlink(missing_ok=True)


def test_it_says_what_was_found() -> None:
    done = sonolite("sector", "--source", PHANTOM)
    assert done.code == 0, done
    assert "a screen of 640 x 480, 30 frames" in done.stdout
    assert "rectangle in 80,40,480,400, 62 % of the screen" in done.stdout


def test_a_program_gets_all_of_it() -> None:
    done = sonolite("sector", "--source", PHANTOM, "--frames", "5", "--json")
    answer = json.loads(done.stdout)
    assert answer["box"] == [80, 40, 480, 400]
    assert (answer["kind"], answer["frames"]) == ("rectangle", 5)
    assert (answer["flaw"], answer["saved"]) == (None, False)


def test_the_outline_is_drawn_on_the_screen(tmp_path: Path) -> None:
    out = tmp_path / "sector.png"
    corners = "200,60 440,60 560,430 80,430"
    done = sonolite("sector", "--source", PHANTOM, "--set", corners, "--out", out)
    assert done.code == 0, done
    drawn = cv2.imread(str(out))
    assert drawn is not None
    green = (drawn[..., 1] > 200) & (drawn[..., 0] < 120) & (drawn[..., 2] < 120)
    rows, columns = np.nonzero(green)
    assert (columns.min(), columns.max()) == pytest.approx((80, 560), abs=3)
    assert (rows.min(), rows.max()) == pytest.approx((60, 430), abs=3)


def test_what_is_saved_is_listed_shown_and_forgotten() -> None:
    done = sonolite("sector", "--source", PHANTOM, "--save", "--roi", "167,190,108,100")
    assert done.code == 0, done
    listed = sonolite("sector")
    assert f"{PHANTOM}  640 x 480  rectangle in 80,40,480,400" in listed.stdout
    assert "judged in 167,190,108,100" in listed.stdout
    assert json.loads(sonolite("sector", "--json").stdout)[0]["roi"] == [167, 190, 108, 100]
    assert "saved: rectangle" in sonolite("sector", "--source", PHANTOM).stdout
    assert sonolite("sector", "--source", PHANTOM, "--forget").code == 0
    assert read_saved_regions(saved_regions_file()) == ()
    refused(sonolite("sector", "--source", PHANTOM, "--forget"), "nothing is saved")


def test_what_is_set_is_saved() -> None:
    corners = "200,60 440,60 560,430 80,430"
    done = sonolite("sector", "--source", PHANTOM, "--set", corners, "--save")
    assert done.code == 0, done
    (entry,) = read_saved_regions(saved_regions_file())
    assert entry.polygon == ((200, 60), (440, 60), (560, 430), (80, 430))
    assert "trapezoid" in done.stdout


def test_run_takes_what_is_saved(demo_path: Path) -> None:
    sonolite("sector", "--source", PHANTOM, "--set", "100,60,300,200", "--save")
    done = sonolite("run", demo_path, "--source", PHANTOM, "--json", "--any-picture")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(its["box"]) for its in results} == {(100, 60, 300, 200)}


def test_run_refuses_a_damaged_file(demo_path: Path) -> None:
    saved_regions_file().write_text("[[sector]]\nsource = 3\n")
    refused(sonolite("run", demo_path, "--source", PHANTOM), "sectors.toml", "sector[0]")


def test_a_screen_without_a_picture_is_said_and_not_saved(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((240, 320), np.uint8))
    done = sonolite("sector", "--source", tmp_path / "black.png")
    assert done.code == 0
    assert "no ultrasound picture in it" in done.stdout
    assert "the picture is black" in done.stdout
    refused(sonolite("sector", "--source", tmp_path / "black.png", "--save"), "--set")


def test_few_frames_of_a_video_do(make_video: Callable[..., Path]) -> None:
    done = sonolite("sector", "--source", make_video("short.mp4", frames=3))
    assert "3 frames" in done.stdout
    assert "rectangle in" in done.stdout


@pytest.mark.parametrize(
    ("set_to", "says"),
    [
        ("1,2,3", "four whole numbers"),
        ("a,b c,d e,f", "x,y x,y x,y"),
        ("0,0 50,0 900,50", "outside the 640 x 480 screen"),
        ("0,0 50,50 50,0 0,50", "not convex"),
        ("600,400,100,100", "outside the 640 x 480 screen"),
    ],
)
def test_an_ill_formed_outline_is_refused(set_to: str, says: str) -> None:
    refused(sonolite("sector", "--source", PHANTOM, "--set", set_to), "--set", says)


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    refused(sonolite("sector", "--save"), "--source is missing")
    refused(sonolite("sector", "--source", tmp_path / "no.mp4"), "no such file")
    refused(sonolite("sector", "--source", PHANTOM, "--out", tmp_path / "a.gif"), ".png or .jpg")
    save = ("sector", "--source", PHANTOM, "--save", "--roi")
    refused(sonolite(*save, "600,0,100,100"), "outside the 640 x 480 screen")
    refused(sonolite(*save, "x"), "--roi")
