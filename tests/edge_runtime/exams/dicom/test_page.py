"""The commands about a PACS in docs/results.md, with the ports of a real one."""

import re
import shlex
from pathlib import Path

import pytest

from edge_runtime.exams.dicom import codes
from edge_runtime.exams.own_codes import REASON_CODES
from tests.conftest import sonolite
from tests.edge_runtime.exams.dicom.orthanc import Orthanc

PAGE = (Path(__file__).parents[4] / "docs" / "results.md").read_text()
SENT = re.findall(r"^    sonolite (exam send .*)$", PAGE, re.MULTILINE)


def test_the_page_sends_in_both_ways() -> None:
    assert [re.findall(r"(dicom\w*):", line)[0] for line in SENT] == ["dicom", "dicomweb"]


@pytest.mark.parametrize("line", SENT)
def test_the_command_of_the_page_sends_an_exam(line: str, pacs: Orthanc, exams: Path) -> None:
    words = shlex.split(line.replace("4242", str(pacs.port)).replace("8042", str(pacs.http)))
    words[words.index("--folder") + 1] = str(exams)
    done = sonolite(*words)
    assert done.code == 0, done
    assert len(pacs.identifiers()) == 4


def test_the_page_names_every_code_of_a_reason() -> None:
    for code in (*REASON_CODES.values(), codes.reason_code("another").value):
        assert f"`{code}`" in PAGE
