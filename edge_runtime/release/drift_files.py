"""The files of daily aggregates: a folder with one file for each day and bundle, `DAY-DIGEST.json`.

`edge_runtime.sinks.drift` writes them. Here they are listed and read for `sonolite device drift`.
"""

import errno
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from edge_runtime.release.layout import (
    BUNDLE,
    RECORD,
    Layout,
    Refused,
    read_json_file,
    read_link,
    read_record,
)

DRIFT_FOLDER = "drift"
"""The folder below the state of a device."""
DAY_FILE = re.compile(r"(\d{4}-\d\d-\d\d)-[0-9a-f]{12}\.json(\.damaged)?")
MAX_DAY_FILES = 400
"""Files that are kept; the oldest are removed."""
MAX_ANSWER_BYTES = 16 << 20
"""Bytes of the days of one answer."""
_MAX_GATE_BYTES = 4 << 20


def day_files(folder: Path) -> list[Path]:
    """The files of days, oldest first, and those that were damaged."""
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return [folder / name for name in sorted(name for name in names if DAY_FILE.fullmatch(name))]


def read_days(folder: Path, since: str, until: str) -> dict[str, Any]:
    """The days from `since` to `until`, as `YYYY-MM-DD`: the content of their files.

    The answer names the first and the last day that there is, and the files that are damaged.
    Raises Refused where the days are too large for an answer.
    """
    days: list[Any] = []
    damaged, size = [], 0
    files = day_files(folder)
    for path in files:
        if path.suffix == ".damaged":
            damaged.append(path.name)
        elif since <= path.name[:10] <= until:
            record = read_json_file(path)
            if isinstance(record, dict):
                days.append(record)
                size += path.stat().st_size
            else:
                damaged.append(path.name)
        if size > MAX_ANSWER_BYTES:
            raise Refused("more days than one answer holds; name a shorter time")
    names = [path.name[:10] for path in files]
    return {
        "days": days,
        "damaged": damaged,
        "first": min(names, default=None),
        "last": max(names, default=None),
    }


def device_days(layout: Layout, since: str, until: str) -> dict[str, Any]:
    """`read_days` of a device, with the bundle that runs there and the reference in it.

    Raises Refused, too, for a link in the place of the folder: the service's user may have put it.
    """
    release = read_link(layout, "current")
    folder = layout.release(release) if release else None
    bundle = read_record(folder / RECORD).get("bundle") if folder else None
    return {
        **_read_unlinked(layout.state(DRIFT_FOLDER), since, until),
        "bundle": bundle,
        "reference": _reference(folder / BUNDLE) if folder else None,
    }


def _read_unlinked(folder: Path, since: str, until: str) -> dict[str, Any]:
    """`read_days` of the folder itself, whatever is put into its place meanwhile.

    Raises Refused where a link or something else stands there.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"days": [], "damaged": [], "first": None, "last": None}
    except OSError as error:
        planted = error.errno in (errno.ENOTDIR, errno.ELOOP)
        why = "not a folder; remove it there" if planted else error.strerror
        raise Refused(f"{folder}: {why}") from error
    try:
        return read_days(Path(f"/proc/self/fd/{handle}"), since, until)
    finally:
        os.close(handle)


def _reference(bundle: Path) -> Any:
    """The reference in `gate.json` of a bundle that was checked when it came; None without one."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            if archive.getinfo("gate.json").file_size > _MAX_GATE_BYTES:
                return None
            gate = json.loads(archive.read("gate.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile):
        return None
    return gate.get("reference") if isinstance(gate, dict) else None
