"""A deployed device, and the questions to it."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from devices import BadInput
from edge_runtime.deploy.drift import DriftDays, parse_days
from edge_runtime.deploy.exam_archive import (
    MAX_EXAM_BYTES,
    DeviceExam,
    parse_exams,
    unpack_exam,
)
from edge_runtime.deploy.fleet import FleetDevice
from edge_runtime.deploy.plan import require_root, require_status
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.release.layout import (
    BUNDLE,
    ENVIRONMENT,
    EXAMS,
    OPERATOR_TOKEN,
    TOKEN,
    TOOL,
    TRUSTED,
    VIEW_RECORD,
    VIEW_TOKEN,
    is_release_name,
)
from edge_runtime.results.delivery import Delivery

OWN_CHECK = """\
import os, stat, sys
for path in (sys.argv[1], os.path.dirname(sys.argv[1])):
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) or status.st_uid not in (0, os.getuid()):
        sys.exit(path + ": of another user, so that it is not run; log in as the one who deploys")
    if status.st_mode & 0o022:
        sys.exit(path + ": other users can write it, so that it is not run; deploy again")
"""
"""Ends with one line unless a program and its folder are of this user, or of root, alone."""
TOOL_SCRIPT = """\
set -eu
test -e "$1" || { echo "nothing was deployed here; see sonolite deploy" >&2; exit 2; }
for python in python3 python3.13 python3.12 python3.11; do
    if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
        "$python" -I -c '@CHECK@' "$1"
        exec "$python" -I "$@"
    fi
done
echo "no Python from 3.11 on" >&2
exit 2
""".replace("@CHECK@", OWN_CHECK)
"""Runs the tool with the first Python that is new enough, unless another user can change it."""
LINK = re.compile(r"https?://[\w.:\[\]-]+:\d{1,5}/", re.ASCII)
"""What the address of a view may be."""
FILE_CHECK = """\
if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then
    echo "$1: not a file; remove it there" >&2
    exit 2
fi
"""
"""Refuses a link or a pipe, which the user of the service can put in the place of a file.

Since that may happen after the check, too, the readers have a limit of time and of bytes.
"""
KEPT_SCRIPT = f"""\
set -eu
{FILE_CHECK}
test -e "$1" || {{ echo "there is no link yet; see sonolite device status" >&2; exit 2; }}
rights=
[ -r "$1" ] || rights="sudo -n -u $(stat -c %U "$1")"
$rights timeout 10 head -c 200 "$1"
"""
"""Prints the token of a view, which the service's user alone reads, by the rights of that user."""
MAX_LOG_BYTES_READ = 1 << 20
"""Bytes of a log that are read at most, from its end."""
LOGS_SCRIPT = f"""\
set -eu
if [ -d /run/systemd/system ]; then
    rights=
    id -nG | grep -qwE 'root|adm|systemd-journal' || rights='sudo -n'
    exec $rights journalctl -u sonolite -o cat -n "$2" --no-pager
fi
{FILE_CHECK}
test -r "$1" || {{ echo "$1: cannot be read" >&2; exit 2; }}
timeout 10 tail -c {MAX_LOG_BYTES_READ} "$1" | tail -n "$2"
"""
"""A user in none of these groups sees an empty journal, and no error (journalctl(1))."""


OWNER_SCRIPT = """\
set -eu
exams=$1
shift
if [ -L "$exams" ] || [ ! -d "$exams" ]; then
    echo "no exams are kept there; see sonolite deploy --exams" >&2
    exit 2
fi
owner=$(stat -c %U "$exams")
rights=
[ "$owner" = "$(id -un)" ] || rights="sudo -n -u $owner"
exec $rights "$@"
"""
"""Runs a command by the rights of the service's user, who alone reads the exams."""
ARCHIVE_SCRIPT = """\
set -eu
cd /
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$@" --out "$folder/exam" >&2
tar -C "$folder/exam" -cf - .
"""
"""Exports an exam, and prints it as an archive."""


def _sink_lines(sinks: list[dict[str, Any]]) -> str:
    """The counts of the sinks for a person."""
    try:
        return "; ".join(Delivery(**sink).line() for sink in sinks)
    except TypeError:
        return "no counts can be read"


class DeployedDevice:
    """The tool on a device, at the other end of a connection."""

    def __init__(self, device: SshDevice, root: str) -> None:
        """Raises BadInput for a root that no device can have."""
        require_root(root)
        self._device, self._root = device, PurePosixPath(root)

    def _words(self, action: str, *arguments: str) -> list[str]:
        """The command of an action of the tool."""
        tool = str(self._root / TOOL)
        return ["sh", "-c", TOOL_SCRIPT, "sh", tool, action, str(self._root), *arguments]

    def status(self) -> dict[str, Any]:
        """See `edge_runtime.release.tool.release_status`. Raises as `SshDevice.read` does."""
        answer = require_status(self._device.address, self._device.read(self._words("status")))
        if isinstance(answer.get("config"), str):  # an earlier tool's, which may hold a password
            del answer["config"]
        return answer

    def summary(self, everything: bool = False) -> dict[str, Any]:
        """The most important facts for a person; all of them with `everything`."""
        status = self.status()
        if everything:
            return status
        current = status["releases"].get(status["current"]) or {}
        last = status.get("outcome") or {}
        view = status.get("view")
        config = status.get("config")
        trouble = config.get("error") if isinstance(config, dict) else None
        last_outcome = f"{last.get('event', '')} {last.get('release', '')}"
        return {
            "bundle": current.get("bundle"),
            "release": status["current"],
            "previous": status.get("previous"),
            "running": status["running"],
            "state": status.get("state"),
            "on trial": status["trial"] is not None,
            "last outcome": last_outcome.strip(),
            **({"why": last["why"]} if last.get("why") else {}),
            **({"configuration": trouble} if trouble else {}),
            **({"view": view.get("trouble") or view.get("link")} if view else {}),
            **({"sinks": _sink_lines(status["sinks"])} if status.get("sinks") else {}),
            **({"damaged": " ".join(status["damaged"])} if status.get("damaged") else {}),
        }

    def view(self, operator: bool = False) -> dict[str, Any]:
        """The link to the live view, with the token, and the fingerprint of its certificate.

        The link is that of a viewer, or of an `operator`.

        Raises BadInput where the device shows none.
        """
        record = self.status().get("view")
        if not isinstance(record, dict) or "trouble" not in record:
            raise BadInput("no live view; see sonolite deploy --view")
        if record["trouble"] is not None and "link" not in record:
            raise BadInput(f"no live view: {record['trouble']}")
        link, fingerprint = str(record.get("link")), record.get("fingerprint")
        if not LINK.fullmatch(link) or not isinstance(fingerprint, str | None):
            raise BadInput(f"{VIEW_RECORD} is damaged; it is made anew when the service starts")
        path = str(self._root / "state" / (OPERATOR_TOKEN if operator else VIEW_TOKEN))
        token = self._device.run(["sh", "-c", KEPT_SCRIPT, "sh", path]).strip()
        if not TOKEN.fullmatch(token):
            raise BadInput(f"{path}: damaged; remove it, and the service makes another")
        return {"link": f"{link}#{token}", "fingerprint": fingerprint}

    def drift(self, since: str, until: str) -> DriftDays:
        """The daily aggregates of the days from one to another. Raises as `SshDevice.run` does."""
        try:
            answer = self._device.run(self._words("drift", since, until))
        except BadInput as error:
            if "invalid choice" in str(error):
                raise BadInput("keeps no aggregates yet; deploy to it with this version") from error
            raise
        return parse_days(answer, self._device.address)

    def rollback(self, wait: float, force: bool) -> dict[str, Any]:
        """Goes back to the release before this one; the answer names it."""
        words = ["--wait", f"{wait:g}", *(["--force"] if force else [])]
        answer = self._device.read(self._words("back", *words))
        if not isinstance(answer, dict) or not is_release_name(answer.get("release")):
            raise BadInput(f"{self._device.address}: does not say to which release it went back")
        return {"outcome": "went back", "release": answer["release"]}

    def logs(self, lines: int, switches: bool) -> str:
        """The newest lines of the service's journal, or of the log of switches."""
        if switches:
            return self._device.run(self._words("log", "--lines", str(lines)))
        plain = str(self._root / "state" / "service.log")
        return self._device.run(["sh", "-c", LOGS_SCRIPT, "sh", plain, str(lines)])

    def doctor(self) -> list[dict[str, Any]]:
        """The findings of the doctor on the device; see `edge_runtime.doctor`."""
        release = self._release()
        words = ["env", f"SONOLITE_TRUST={self._root / TRUSTED}", self._program(release), "doctor"]
        findings = self._device.read([*words, str(release / BUNDLE), "--json"])
        if not isinstance(findings, list) or not all(isinstance(each, dict) for each in findings):
            raise BadInput(f"{self._device.address}: answers no findings")
        return findings

    def exams(self) -> tuple[DeviceExam, ...]:
        """The exams that are kept on the device, the oldest first.

        Raises BadInput where none are kept there.
        """
        words = self._exam_words("list", "--json")
        answer = self._device.run([*self._as_owner(), *words])
        return parse_exams(answer, self._device.address)

    def copy_exam(self, number: int, out: Path, anonymous: bool) -> None:
        """Exports an exam on the device, and writes the files into the new folder `out`.

        Raises as `SshDevice.fetch` and `unpack_exam` do.
        """
        words = self._exam_words("export", str(number), *(["--anonymous"] if anonymous else []))
        with tempfile.TemporaryFile() as archive:
            script = ["sh", "-c", ARCHIVE_SCRIPT, "sh"]
            self._device.fetch([*self._as_owner(), *script, *words], archive, MAX_EXAM_BYTES)
            archive.seek(0)
            unpack_exam(archive, out, self._device.address)

    def _release(self) -> PurePosixPath:
        """The folder of the current release. Raises BadInput where there is none."""
        name: str = self.status()["current"]
        if not is_release_name(name):
            raise BadInput("no release runs there; deploy one")
        return self._root / "releases" / name  # no link: the service's user can change those

    def _program(self, release: PurePosixPath) -> str:
        return str(release / ENVIRONMENT / "bin" / "sonolite")

    def _exam_words(self, *words: str) -> list[str]:
        """A command on the exams of the device."""
        program = self._program(self._release())
        return [program, "exam", *words, "--folder", str(self._root / "state" / EXAMS)]

    def _as_owner(self) -> list[str]:
        """The words before a command that is run by the rights of the service's user."""
        return ["sh", "-c", OWNER_SCRIPT, "sh", str(self._root / "state" / EXAMS)]


@contextmanager
def connect(member: FleetDevice) -> Iterator[DeployedDevice]:
    """The deployed device at the address of `member`, while the block runs.

    Raises BadInput for an address or a root that cannot be used.
    """
    with SshDevice(member.address, member.ssh) as device:
        yield DeployedDevice(device, member.root)
