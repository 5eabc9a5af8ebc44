"""What is drawn onto the screen."""

from dataclasses import replace

import numpy as np
import pytest

from devices import Box, Pixels
from edge_runtime.results.result import Nodule, Result
from edge_runtime.results.states import State
from edge_runtime.sinks import overlay
from tests.edge_runtime.results.examples import NODULE, RESULT


def with_nodule(**changes: object) -> Result:
    """The result with its nodule changed."""
    return replace(RESULT, nodules=(replace(NODULE, **changes),))  # type: ignore[arg-type]


def written(
    monkeypatch: pytest.MonkeyPatch, result: Result, pixels: Pixels
) -> list[tuple[str, overlay.Color]]:
    """Every text that is drawn, and its colour."""
    said: list[tuple[str, overlay.Color]] = []
    write = overlay._write

    def spy(
        canvas: Pixels, text: str, corner: tuple[int, int], band: int, color: overlay.Color
    ) -> None:
        said.append((text, color))
        write(canvas, text, corner, band, color)

    monkeypatch.setattr(overlay, "_write", spy)
    overlay.draw_result(pixels, result)
    return said


def texts(monkeypatch: pytest.MonkeyPatch, result: Result, pixels: Pixels) -> list[str]:
    """Every text that is drawn."""
    return [text for text, _ in written(monkeypatch, result, pixels)]


def test_label_probability_state_and_notice_are_shown(
    monkeypatch: pytest.MonkeyPatch, screen: Pixels
) -> None:
    head, foot = texts(monkeypatch, RESULT, screen)
    assert head == "LIVE   malignant   score(malignant) 0.80, threshold 0.70, at prevalence 0.70"
    assert "research use only, not for diagnosis" in foot


SILENT = replace(NODULE, label=None, reason="not enough", smoothed=None)


@pytest.mark.parametrize(
    ("nodules", "head", "color"),
    [
        (
            (replace(NODULE, label="benign"), replace(NODULE, track=2)),
            "nodule 2: malignant",
            overlay.POSITIVE,
        ),
        (
            (replace(NODULE, label="benign"), replace(SILENT, track=3)),
            "nodule 3: no label (not enough)",
            overlay.ABSTAINED,
        ),
        ((SILENT, replace(SILENT, track=2)), "nodule 1: no label (not enough)", overlay.ABSTAINED),
        ((SILENT,), "no label (not enough)", overlay.ABSTAINED),
    ],
)
def test_the_headline_speaks_of_the_leading_nodule_in_its_colour(
    monkeypatch: pytest.MonkeyPatch,
    screen: Pixels,
    nodules: tuple[Nodule, ...],
    head: str,
    color: overlay.Color,
) -> None:
    (said, shown), _ = written(monkeypatch, replace(RESULT, nodules=nodules), screen)
    assert said.split("   ")[:2] == ["LIVE", head]
    assert shown == color


def test_a_probability_at_another_prevalence_is_told_beside_the_score(
    monkeypatch: pytest.MonkeyPatch, screen: Pixels
) -> None:
    nodule = replace(NODULE, adjusted={"benign": 0.9, "malignant": 0.1})
    shares = {"benign": 0.95, "malignant": 0.05}
    head, _ = texts(
        monkeypatch, replace(RESULT, nodules=(nodule,), adjusted_prevalence=shares), screen
    )
    assert head.endswith("at prevalence 0.70; p(malignant) 0.10 at prevalence 0.05")


def test_a_whole_picture_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, screen: Pixels) -> None:
    assert "whole picture" not in texts(monkeypatch, RESULT, screen)[1]
    assert "whole picture" in texts(monkeypatch, replace(RESULT, region="found"), screen)[1]


@pytest.mark.parametrize("state", [state for state in State if state is not State.LIVE])
def test_outside_live_no_label_is_drawn(
    monkeypatch: pytest.MonkeyPatch, screen: Pixels, state: State
) -> None:
    """Not even were a result to carry one."""
    head, _ = texts(monkeypatch, replace(RESULT, state=state, reason="because"), screen)
    assert head == f"{state}  because"


def test_the_picture_itself_keeps_every_pixel_but_the_box(screen: Pixels) -> None:
    drawn = overlay.draw_result(screen, RESULT)
    band = (drawn.shape[0] - screen.shape[0]) // 2
    changed = np.argwhere((drawn[band:-band] != screen).any(axis=2))
    assert changed.min(axis=0).tolist() == [99, 99]
    assert changed.max(axis=0).tolist() == [140, 150]


def test_evidence_tints_the_window_by_what_it_speaks_for(screen: Pixels) -> None:
    result = with_nodule(box=Box(110, 110, 9, 9))
    plain = overlay.draw_result(screen, result).astype(int)
    tinted = overlay.draw_result(screen, result, evidence=True)
    band = (tinted.shape[0] - screen.shape[0]) // 2
    changed = np.argwhere((tinted != plain).any(axis=2))
    assert changed.min(axis=0).tolist() == [80 + band, 85]
    assert changed.max(axis=0).tolist() == [159 + band, 164]
    for (y, x), color in (((80, 85), overlay.POSITIVE), ((159, 164), overlay.NEGATIVE)):
        expected = (plain[y + band, x] + color) / 2
        assert np.abs(tinted[y + band, x] - expected).max() <= 1


@pytest.mark.parametrize(
    "window", [Box(-30, -40, 80, 80), Box(300, 200, 80, 80), Box(-50, -50, 900, 900)]
)
def test_of_what_overhangs_the_screen_nothing_is_tinted(screen: Pixels, window: Box) -> None:
    plain = overlay.draw_result(screen, RESULT)
    drawn = overlay.draw_result(screen, with_nodule(window=window), evidence=True)
    height, width = screen.shape[:2]
    band = (drawn.shape[0] - height) // 2
    changed = np.argwhere((drawn != plain).any(axis=2))
    first = [max(window.y, 0) + band, max(window.x, 0)]
    last = [min(window.y + window.h, height) + band - 1, min(window.x + window.w, width) - 1]
    assert changed.min(axis=0).tolist() == first
    assert changed.max(axis=0).tolist() == last


def test_without_a_label_nothing_is_tinted(screen: Pixels) -> None:
    silent = with_nodule(label=None)
    plain = overlay.draw_result(screen, silent)
    assert (overlay.draw_result(screen, silent, evidence=True) == plain).all()


@pytest.mark.parametrize("shape", [(32, 32), (240, 320, 3), (1080, 1920, 3)])
def test_every_size_of_screen_can_be_drawn_on(shape: tuple[int, ...]) -> None:
    drawn = overlay.draw_result(np.zeros(shape, np.uint8), replace(RESULT, nodules=(), box=None))
    assert drawn.shape[1:] == (shape[1], 3)
    assert drawn.max() > 100


def test_a_found_nodule_has_its_number_and_label_at_the_box() -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    found = with_nodule(locator_score=0.9)
    marked, drawn = overlay.draw_result(pixels, RESULT), overlay.draw_result(pixels, found)
    band = (drawn.shape[0] - 240) // 2
    above = np.s_[band + 80 : band + 99, 100:200]
    assert not marked[above].any()
    assert drawn[above].any()


@pytest.mark.parametrize("state", [State.LIVE, State.FROZEN, State.SEARCHING])
def test_a_searched_picture_without_a_nodule_has_no_box(
    monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    empty = replace(RESULT, state=state, nodules=(), reason="why", region="found", searched=True)
    band = (overlay.draw_result(pixels, empty).shape[0] - 240) // 2
    assert not overlay.draw_result(pixels, empty)[band:-band].any()
    assert "whole picture" not in texts(monkeypatch, empty, pixels)[1]
