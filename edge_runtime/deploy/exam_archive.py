"""The exams of a device: what it says of them, and one of them as an archive of files.

The user of the service could send anything. So entries are checked, and an archive gives new files
with plain names alone.
"""

import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

from msgspec import Meta

from devices import BadInput
from devices.schema_io import read_json
from edge_runtime.files import whole_folder

MAX_EXAM_BYTES = 8 << 30
"""Bytes of the archive of an exam; a picture without loss takes half a megabyte."""
MAX_EXAM_FILES = 20_000
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_MAX_FOLDERS = 2
_Words = Annotated[str, Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class _Identity:
    patient_id: _Words
    name: _Words


@dataclass(frozen=True, slots=True)
class _Provenance:
    bundle: _Words
    version: int


@dataclass(frozen=True, slots=True)
class DeviceExam:
    """One exam on a device."""

    id: Annotated[int, Meta(ge=1)]
    begun: _Words
    ended: _Words | None
    running: bool
    interrupted: bool
    identity: _Identity
    provenance: _Provenance
    nodule_count: int
    picture_count: int | None = None
    """None of an earlier release, which does not tell it."""

    def row(self) -> dict[str, object]:
        """A line of a table for a person."""
        state = "running" if self.running else "interrupted" if self.interrupted else "ended"
        return {
            "exam": self.id,
            "begun (UTC)": self.begun[:16].replace("T", " "),
            "state": state,
            "patient": self.identity.patient_id or self.identity.name,
            "nodules": self.nodule_count,
            "pictures": self.picture_count,
            "model": f"{self.provenance.bundle} {self.provenance.version}",
        }


def parse_exams(text: str, where: str) -> tuple[DeviceExam, ...]:
    """The exams of an answer of `sonolite exam list --json`. Raises BadInput for another answer."""
    return read_json(text, tuple[DeviceExam, ...], f"{where}: the list of exams", whole=False)


def unpack_exam(archive: IO[bytes], out: Path, where: str) -> None:
    """Writes the files of an archive into the new folder `out`, for its owner alone.

    Raises BadInput where `out` exists or cannot be written, and for an archive with anything but
    files of plain names.
    """
    with whole_folder(out) as part:
        part.chmod(0o700)
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                for count, member in enumerate(tar, 1):
                    if count > MAX_EXAM_FILES:
                        raise BadInput(f"{where}: the exam has more than {MAX_EXAM_FILES:,} files")
                    if not member.isdir():
                        _write_member(tar, member, part, where)
        except tarfile.TarError as error:
            raise BadInput(f"{where}: sends no whole archive of the exam") from error


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, part: Path, where: str) -> None:
    path = PurePosixPath(member.name)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    named = all(_NAME.fullmatch(step) for step in path.parts) and path.parts
    if not plain or not named or len(path.parts) > _MAX_FOLDERS + 1:
        raise BadInput(f"{where}: sends something else than the files of an exam")
    content = tar.extractfile(member)
    assert content is not None
    target = part / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, open(target, "xb") as file:
            shutil.copyfileobj(content, file)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput(f"{where}: sends two files of one name") from error
