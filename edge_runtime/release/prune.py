"""What no release needs any more goes; what could be gone back to stays."""

import shutil

from edge_runtime.release.layout import (
    COMPLETE,
    LINKS,
    RECORD,
    Layout,
    linked,
    read_json,
    remove,
)
from edge_runtime.release.switch import read_trial


def prune(layout: Layout) -> list[str]:
    """Removes releases but current, previous, the last good and one on trial, the environments
    that none of these needs, and what was sent; returns the names of the releases that went.
    """
    trial = read_trial(layout)
    kept = {name for link in LINKS if (name := linked(layout, link))}
    if trial:
        kept |= {name for name in (trial.release, trial.back, trial.before) if name}
    gone = []
    for folder in sorted(layout.release("").iterdir()):
        if folder.name not in kept:
            remove(folder, RECORD)
            gone.append(folder.name)
    records = [read_json(layout.release(name) / RECORD) or {} for name in kept]
    needed = {its.get("environment") for its in records}
    for folder in layout.environment("").iterdir():
        if folder.name not in needed:
            remove(folder, COMPLETE)
    for sent in layout.incoming("").iterdir():
        if sent.is_dir():
            shutil.rmtree(sent)
        else:
            sent.unlink()
    return gone
