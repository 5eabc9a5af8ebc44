"""Processes of our own find modules wherever the first process found them."""

import subprocess
import sys
from pathlib import Path

import pytest

from devices.own_process import module_command


def test_a_module_is_found_on_a_path_that_the_program_set_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "speaker.py").write_text("import sys\nprint(__name__, *sys.argv[1:])\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    done = subprocess.run([*module_command("speaker"), "a", "b"], capture_output=True, text=True)
    assert done.stdout == "__main__ a b\n", done.stderr


def test_a_module_of_the_working_folder_is_not_taken_for_one_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "runpy.py").write_text("print('a stranger')\n")
    done = subprocess.run(module_command("this"), capture_output=True, text=True, cwd=tmp_path)
    assert "stranger" not in done.stdout
    assert done.returncode == 0
