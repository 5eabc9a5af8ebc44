"""`config.toml` of a device: the source, and the state that a new release has to reach."""

import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_runtime.release.address import split_address
from edge_runtime.release.layout import Refused, read_file

TRIAL_STATES = ("LIVE", "SEARCHING", "STALE", "FROZEN", "LOST")
"""States that a trial may require: those of `edge_runtime.results.states.State` except FAULT."""
MIN_TRIAL_SECONDS, MAX_TRIAL_SECONDS = 2.0, 3600.0
KIOSK_ROLES = ("viewer", "operator")
MAX_KEEP_DAYS, MAX_KEEP_GIGABYTES = 36_500, 10_000
"""A hundred years, and the largest disks."""

CONFIG_HEAD = """\
# What this device looks at. Edit it; the service begins anew by itself.
# source: as in `sonolite run --source`. A password may stand in a variable, as ${CAMERA_PASSWORD},
# which /etc/sonolite.env sets. roi: "x,y,w,h" of the nodule on the screen, or "".
# follow: true lets the box follow the nodule that is marked.
# whole_picture: true classifies the whole picture where no nodule is marked.
# prevalence: share of the positive class among the patients here, as in "0.1", or "".
# trial_state: what a new release has to reach within trial_seconds: "LIVE", or what the device
# shows where no scanner is attached, such as "LOST" or "SEARCHING".
# A table [view] shows the live picture: address = "127.0.0.1:8765"; tls = true encrypts it with a
# certificate that the device makes, certificate = "FILE" and key = "FILE" with one of yours.
# A table [exam] lets an operator of that page keep exams; keep_days = 30.0 and
# keep_gigabytes = 4.0 delete older ones; worklist = "HOST:PORT" offers the patients of a worklist.
# [[sink]] with a uri, as in `sonolite run --sink`, sends results to one more place.
"""


@dataclass(frozen=True)
class ViewSettings:
    """The live view of a device."""

    address: str = ""
    """As in `sonolite run --view`; empty where there is no view."""
    tls: bool = False
    """Whether the view is encrypted with a certificate that the device makes."""
    certificate: str = ""
    """The path of the certificate that encrypts the view; empty where none is given."""
    key: str = ""
    """The path of the key of that certificate, where its file does not hold it."""
    kiosk_role: str = "viewer"
    """What the device's own screen may do: one of KIOSK_ROLES."""


@dataclass(frozen=True)
class ExamSettings:
    """The exams that a device keeps; both limits are applied when an exam begins."""

    keep_days: float = 30.0
    """Older exams are deleted."""
    keep_gigabytes: float = 4.0
    """The oldest exams beyond this size are deleted."""
    worklist: str = ""
    """As in `sonolite run --worklist`; empty where patients are typed."""


@dataclass(frozen=True)
class SinkConfig:
    """One `[[sink]]`."""

    uri: str
    """May hold a password: never print it."""


@dataclass(frozen=True)
class Config:
    """The configuration of a device."""

    source: str
    roi: str = ""
    follow: bool = False
    whole_picture: bool = False
    prevalence: str = ""
    board: str = ""
    """The board that the device was deployed as."""
    trial_seconds: float = 60.0
    trial_state: str = "LIVE"
    view: ViewSettings = ViewSettings()
    sink: tuple[SinkConfig, ...] = ()
    exam: ExamSettings | None = None
    """None where no exams are kept."""


def read_config(path: Path) -> Config:
    """Reads the configuration of a device. Raises Refused, which names the first wrong setting."""
    try:
        return parse_config(read_file(path).decode(), str(path))
    except FileNotFoundError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8") from error


def parse_config(text: str, where: str) -> Config:
    """The configuration of TOML text; see `read_config`."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"\(at [^()]*\)$", str(error))  # the rest may quote a password
        raise Refused(f"{where}: not TOML{f' {place[0]}' if place else ''}") from None
    return make_config(table, where)


def make_config(table: dict[str, Any], where: str) -> Config:
    """The configuration of a table of values; see `read_config`."""
    _check_types(table, Config, where)
    if not table.get("source"):
        raise Refused(f"{where}: the setting source is missing")
    view = table.get("view", {})
    _check_types(view, ViewSettings, f"{where}: view")
    sinks = _sinks(table.get("sink", ()), where)
    kept = table.get("exam")
    if kept is not None:
        _check_types(kept, ExamSettings, f"{where}: exam")
    exam = None if kept is None else ExamSettings(**kept)
    config = Config(**{**table, "view": ViewSettings(**view), "sink": sinks, "exam": exam})
    if config.trial_state not in TRIAL_STATES:
        raise Refused(f"{where}: trial_state is one of {', '.join(TRIAL_STATES)}")
    if not MIN_TRIAL_SECONDS <= config.trial_seconds <= MAX_TRIAL_SECONDS:
        raise Refused(
            f"{where}: trial_seconds lies in {MIN_TRIAL_SECONDS:g} to {MAX_TRIAL_SECONDS:g}"
        )
    _check_view(config.view, f"{where}: view")
    if exam is not None:
        for name, value, most in (
            ("keep_days", exam.keep_days, MAX_KEEP_DAYS),
            ("keep_gigabytes", exam.keep_gigabytes, MAX_KEEP_GIGABYTES),
        ):
            if not 0 <= value <= most:
                raise Refused(f"{where}: exam: {name} lies in 0 to {most:,}")
    return config


def _check_types(
    table: dict[str, Any], kind: type[Config | ViewSettings | ExamSettings], where: str
) -> None:
    """Raises Refused for a setting that `kind` does not have, or that is of another type."""
    known: dict[str, Any] = {field.name: field.type for field in fields(kind)}
    for number, (name, value) in enumerate(table.items(), 1):
        if name not in known:  # neither the name nor the value is quoted: they may be a password
            raise Refused(f"{where}: setting {number} is none of {', '.join(known)}")
        if name == "sink":
            continue
        wanted = known[name]
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        right = {
            float: numeric,
            ViewSettings: isinstance(value, dict),
            ExamSettings | None: value is None or isinstance(value, dict),
        }
        if not right.get(wanted, type(value) is wanted):
            raise Refused(f"{where}: {name} is of the wrong type; {_TYPES[wanted]} is needed")
        if isinstance(value, str) and not _is_utf8(value):
            raise Refused(f"{where}: {name} is not UTF-8")


def _is_utf8(text: str) -> bool:
    """Whether the bytes of a text were UTF-8, as those of a command line need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_view(view: ViewSettings, where: str) -> None:
    """Raises Refused for settings of a view that contradict each other."""
    if view.address and split_address(view.address) is None:
        raise Refused(f"{where}: address is no address; write it like 127.0.0.1:8765")
    if view.key and not view.certificate:
        raise Refused(f"{where}: key needs certificate")
    if view.tls and view.certificate:
        raise Refused(f"{where}: tls makes a certificate, and certificate gives one")
    if view.kiosk_role not in KIOSK_ROLES:
        raise Refused(f"{where}: kiosk_role is one of {', '.join(KIOSK_ROLES)}")


def _sinks(tables: Any, where: str) -> tuple[SinkConfig, ...]:
    """The sinks of the tables `[[sink]]`."""
    if not isinstance(tables, list | tuple):
        raise Refused(f"{where}: sink is a table [[sink]]")
    for number, table in enumerate(tables, 1):
        if not isinstance(table, dict) or set(table) != {"uri"} or not table["uri"]:
            raise Refused(f"{where}: [[sink]] {number} needs uri, and has nothing else")
        if type(table["uri"]) is not str:
            raise Refused(f"{where}: uri of [[sink]] {number} is text in quotes")
    return tuple(SinkConfig(**table) for table in tables)


_TYPES: dict[Any, str] = {
    str: "text in quotes",
    bool: "true or false",
    float: "a number",
    ViewSettings: "a table",
    ExamSettings | None: "a table",
}


def write_config(config: Config) -> str:
    """The text of a configuration, with comments for the person who edits it."""
    settings = asdict(config)
    view, sinks, exam = (settings.pop(name) for name in ("view", "sink", "exam"))
    if config.view.kiosk_role == ViewSettings.kiosk_role:  # an earlier release does not know it
        del view["kiosk_role"]
    lines = [f"{name} = {_value(value)}" for name, value in settings.items()]
    if config.view != ViewSettings():  # an earlier release knows no view
        lines += ["[view]", *(f"{name} = {_value(value)}" for name, value in view.items())]
    if exam is not None:
        lines += ["[exam]", *(f"{name} = {_value(value)}" for name, value in exam.items())]
    lines += [f"\n[[sink]]\nuri = {_value(sink['uri'])}" for sink in sinks]
    return CONFIG_HEAD + "\n".join(lines) + "\n"


def _value(value: str | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return f"{float(value)}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    plain = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in escaped)
    return f'"{plain}"'
