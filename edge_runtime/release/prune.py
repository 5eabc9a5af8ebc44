"""Removes releases, environments and files that no longer can run; keeps the way back."""

from pathlib import Path

from edge_runtime.release.layout import (
    COMPLETE,
    LINKS,
    RECORD,
    Layout,
    clear_place,
    read_link,
    read_record,
    remove_whole,
)
from edge_runtime.release.switch import read_trial


def find_surplus(layout: Layout) -> tuple[list[Path], list[Path], list[Path]]:
    """The releases, the environments and the sent files that can be removed.

    The current, the previous and the last good release stay, and the one on trial; so do their
    environments.
    """
    trial = read_trial(layout)
    kept = {name for link in LINKS if (name := read_link(layout, link))}
    if trial:
        kept |= {name for name in (trial.release, trial.back, trial.before) if name}
    records = [read_record(layout.release(name) / RECORD) for name in kept]
    environments = [release_record.get("environment") for release_record in records]
    return (
        [folder for folder in _inside(layout.release("")) if folder.name not in kept],
        [folder for folder in _inside(layout.environment("")) if folder.name not in environments],
        _inside(layout.incoming("")),
    )


def remove_surplus(layout: Layout) -> list[str]:
    """Removes the surplus; returns the names of the removed releases."""
    releases, environments, sent = find_surplus(layout)
    for folder in releases:
        remove_whole(folder, RECORD)
    for folder in environments:
        remove_whole(folder, COMPLETE)
    for path in sent:
        clear_place(path)
    for name in LINKS:  # those of earlier versions
        if layout.link(name) != layout.root / name:
            clear_place(layout.root / name)
    return [folder.name for folder in releases]


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
