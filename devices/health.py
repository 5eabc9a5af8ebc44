"""The health of the machine: temperature, throttling, power supply, free space, and clock."""

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path

from devices.boards import Sensors

PLAUSIBLE_CELSIUS = (-40.0, 150.0)
"""Degrees Celsius; a sensor that is off gives other values."""
LOW_DISK = 500_000_000
"""Free bytes; less has no room for another installation."""
LOW_MEMORY = 100_000_000
"""Free bytes; less has no room for another session."""
UNDERVOLTAGE, THROTTLED = 0b0001, 0b1110
"""Bits in the flags of the Raspberry Pi firmware: for now, and shifted by SINCE_START for the time
since the start. THROTTLED has a capped frequency, a throttled processor, and the soft limit of the
temperature (raspberrypi.com/documentation/computers/os.html#get_throttled). Kernels from 2025 on
lack the file (github.com/raspberrypi/linux/pull/6697); then only hwmon gives under-voltage."""
SINCE_START = 16
TIME_ERROR = 5
"""The result of adjtimex(2) while the clock is not synchronised."""


class Trouble(StrEnum):
    """A trouble of the machine."""

    THROTTLED = "the processor is throttled"
    UNDERVOLTAGE = "under-voltage: the power supply or its cable is too weak"
    CLOCK = "the clock is not synchronised"
    DISK = "the disk is nearly full"
    MEMORY = "the memory is nearly full"


@dataclass(frozen=True)
class Health:
    """One reading; a value that the machine does not give is None."""

    celsius: float | None = None
    """The temperature of the hottest sensor."""
    throttled: bool | None = None
    """Whether the processor is slowed now, because of heat or a weak supply."""
    was_throttled: bool | None = None
    """Whether it was slowed since the machine was started; a Raspberry Pi may forget it earlier."""
    undervoltage: bool | None = None
    was_undervoltage: bool | None = None
    megahertz: float | None = None
    """The frequency of the fastest processor core."""
    disk_free: int | None = None
    """Bytes that a user may write."""
    memory_free: int | None = None
    """Free bytes, with those that the kernel would give back."""
    clock_synchronised: bool | None = None


def read_health(
    sensors: Sensors,
    disk: Path,
    root: Path = Path("/"),
    kernel_clock: Callable[[], bool | None] | None = None,
) -> Health:
    """Reads the files of `sensors` under `root`, and the free space on the file system of `disk`.

    A missing sensor is no error. A reading takes less than a millisecond where the sensors are
    fast.
    """
    word = None if sensors.firmware is None else _number(root / sensors.firmware.lstrip("/"), 16)
    counts = list(_numbers(root, sensors.throttle_counts))
    celsius = [millidegrees / 1000 for millidegrees in _numbers(root, sensors.temperature)]
    states = list(_cooling(root, sensors.cooling))
    weak = list(_numbers(root, sensors.undervoltage))
    return Health(
        celsius=max(
            (
                reading
                for reading in celsius
                if PLAUSIBLE_CELSIUS[0] <= reading <= PLAUSIBLE_CELSIUS[1]
            ),
            default=None,
        ),
        throttled=_any(_flag(word, THROTTLED), *(state > 0 for state in states)),
        was_throttled=_any(_flag(word, THROTTLED << SINCE_START), *(count > 0 for count in counts)),
        undervoltage=_any(_flag(word, UNDERVOLTAGE), *(alarm > 0 for alarm in weak)),
        was_undervoltage=_flag(word, UNDERVOLTAGE << SINCE_START),
        megahertz=max(
            (kilohertz / 1000 for kilohertz in _numbers(root, sensors.frequency)), default=None
        ),
        disk_free=_disk_free(disk),
        memory_free=_memory_free(root / "proc/meminfo"),
        clock_synchronised=_clock_synchronised(root, kernel_clock or ask_kernel_clock),
    )


def troubles(health: Health) -> list[Trouble]:
    """The troubles of the machine; a value that is not known is no trouble."""
    conditions = {
        Trouble.THROTTLED: health.throttled,
        Trouble.UNDERVOLTAGE: health.undervoltage,
        Trouble.CLOCK: health.clock_synchronised is False,
        Trouble.DISK: health.disk_free is not None and health.disk_free < LOW_DISK,
        Trouble.MEMORY: health.memory_free is not None and health.memory_free < LOW_MEMORY,
    }
    return [trouble for trouble, present in conditions.items() if present]


def ask_kernel_clock() -> bool | None:
    """Whether the clock is synchronised, from adjtimex(2), which changes nothing here.

    Works without privileges; None where the system call is forbidden, as under systemd's
    ProtectClock.
    """
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # a zeroed struct timex
    return None if answer < 0 else answer != TIME_ERROR


def _clock_synchronised(root: Path, kernel_clock: Callable[[], bool | None]) -> bool | None:
    """Whether the clock is synchronised: from the file of systemd-timesyncd, else from the kernel.

    The file comes first, because a hardened service may read it, but may not call adjtimex(2).
    """
    timesync = root / "run/systemd/timesync"
    if timesync.is_dir():
        return (timesync / "synchronized").exists()
    return kernel_clock()


def _cooling(root: Path, types: tuple[str, ...]) -> Iterator[int]:
    """The state of each cooling device of these types; 0 is off."""
    if not types:
        return
    for path in root.glob("sys/class/thermal/cooling_device*/type"):
        kind = _text(path)
        state = _number(path.with_name("cur_state"))
        if (
            kind is not None
            and state is not None
            and any(fnmatch(kind, pattern) for pattern in types)
        ):
            yield state


def _numbers(root: Path, patterns: tuple[str, ...]) -> Iterator[int]:
    """The number in each file of the patterns that holds one."""
    for pattern in patterns:
        for path in root.glob(pattern.lstrip("/")):
            if (number := _number(path)) is not None:
                yield number


def _text(path: Path) -> str | None:
    """The text of a file; None where it is missing or, as for a sensor that is off, unreadable."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, base: int = 10) -> int | None:
    """The number in a file; None where it holds none."""
    try:
        return int(_text(path) or "", base)
    except ValueError:
        return None


def _flag(word: int | None, bits: int) -> bool | None:
    """Whether one of the bits is set; None where the word is not known."""
    return None if word is None else bool(word & bits)


def _any(*flags: bool | None) -> bool | None:
    """Whether any flag is set; None where no flag is known."""
    known = [flag for flag in flags if flag is not None]
    return any(known) if known else None


def _disk_free(path: Path) -> int | None:
    try:
        room = os.statvfs(path)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def _memory_free(meminfo: Path) -> int | None:
    """`MemAvailable` of /proc/meminfo, see proc(5)."""
    for line in (_text(meminfo) or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == "MemAvailable" and words and words[0].isdecimal():
            return 1024 * int(words[0])
    return None
