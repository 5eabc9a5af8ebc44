"""A device with one release."""

from pathlib import Path

import pytest

from edge_runtime.bundle.trust import trusted_folder
from edge_runtime.release.layout import RECORD, Layout, make_folders, set_link

NAME = "0a1b2c3d4e5f"


@pytest.fixture
def layout(tmp_path: Path, demo_path: Path) -> Layout:
    """A device with the shipped classifier as a release."""
    its = Layout(tmp_path / "root")
    its.root.mkdir()
    make_folders(its)
    folder = its.release(NAME)
    folder.mkdir()
    (folder / "bundle.sonolite").write_bytes(demo_path.read_bytes())
    (folder / RECORD).write_text("{}")
    (its.root / "trusted" / "own.pem").write_bytes((trusted_folder() / "own.pem").read_bytes())
    set_link(its, "current", NAME)
    return its
