"""The image's recipe names what is there, pins it, and ends as a user who is not root."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = (ROOT / "packages" / "Containerfile").read_text().replace("\\\n", " ").splitlines()


def steps(kind: str) -> list[list[str]]:
    """The words of each step of this kind."""
    return [line.split()[1:] for line in STEPS if line.startswith(f"{kind} ")]


def test_what_is_copied_is_there() -> None:
    sources = [words[:-1] for words in steps("COPY") if not words[0].startswith("--from")]
    assert all((ROOT / name).exists() for names in sources for name in names)
    assert {"convert", "devices", "edge_runtime", "train"} <= {
        name for its in sources for name in its
    }


@pytest.mark.install
def test_our_wheel_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    for *sources, target in steps("COPY"):
        if sources[0].startswith("--from"):
            continue
        where = tmp_path / target.lstrip("/")
        for source in (ROOT / name for name in sources):
            if source.is_dir():
                shutil.copytree(source, where, symlinks=True, dirs_exist_ok=True)
            else:
                where.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, where)
    uv = str(Path(sys.executable).with_name("uv"))
    build = [uv, "build", "--no-config", "--quiet", "--wheel", str(tmp_path / "source")]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "source" / "dist").glob("*.whl")
    assert "edge_runtime/demo.sonolite" in zipfile.ZipFile(wheel).namelist()


def test_what_is_installed_is_of_the_lock_or_ours() -> None:
    installs = [words for words in steps("RUN") if "install" in words]
    assert installs
    for words in installs:
        assert {"--require-hashes", "--only-binary=:all:"} <= set(words) or words[-2:] == [
            "--no-deps",
            "/source",
        ]


def test_it_runs_as_its_own_user() -> None:
    (user,) = steps("USER")
    assert user == ["sonolite"]
    last = max(index for index, line in enumerate(STEPS) if line.startswith("RUN "))
    assert STEPS.index("USER sonolite") > last
