"""Pictures, clips and annotations as annotation tools leave them, drawn by the tests."""

import json
from pathlib import Path

import cv2
import numpy as np

from train.marked import MarkedCollection

WIDTH, HEIGHT = 120, 90


def draw(path: Path, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A picture of noise; another seed is another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 250, (height, width), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def film(path: Path, frames: int = 6, seed: int = 0) -> Path:
    """A video whose frame `i` is as bright as 30 times `i`, up to the eighth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coder = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), coder, 10, (WIDTH, HEIGHT))
    noise = np.random.default_rng(seed).integers(0, 9, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index in range(frames):
        writer.write(noise + np.uint8(30 * min(index, 7)))
    writer.release()
    return path


def write(path: Path, content: object) -> Path:
    """A text, or what is no text as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def boxes(found: MarkedCollection) -> dict[str, list[tuple[int, ...]]]:
    """The boxes by the name of the file, and the frame where there is another than 0."""
    return {
        f"{its.path.name}#{its.frame}" if its.frame else its.path.name: [
            tuple(box) for box in its.boxes
        ]
        for its in found.pictures
    }


def reasons(found: MarkedCollection) -> dict[str, str]:
    """Why what was dropped, by the last part of its name."""
    return {Path(its.path).name: its.reason for its in found.dropped}
