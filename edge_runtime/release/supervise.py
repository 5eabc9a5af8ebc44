"""The supervisor: runs the current release, watches its trial, and goes back where it fails.

systemd starts the supervisor, or a container where there is no systemd. The supervisor sees a
switch or a changed configuration on the disk: it ends the old process and starts the new one. A
release that fails outside a trial ends the supervisor too, so that systemd starts it again.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from edge_runtime.release.config import read_config
from edge_runtime.release.layout import (
    CONFIG,
    ENVIRONMENT,
    LINKS,
    POLL_SECONDS,
    SINK_COUNTS,
    STATUS,
    TOOL,
    TRUSTED,
    VIEW_RECORD,
    Layout,
    Refused,
    clear_place,
    hold_lock,
    is_locked,
    log_event,
    read_link,
    write_json_file,
)
from edge_runtime.release.notify import NOTIFY_VARIABLE, Listener, notify
from edge_runtime.release.switch import fail_trial, pass_trial, release_to_start, trial_of_current
from edge_runtime.release.trial import Trial, TrialCheck
from edge_runtime.release.uptime_clock import UptimeClock

BEAT_TIMEOUT = 0.25
"""Seconds to wait for a beat before the other checks."""
STOP_SECONDS = 5.0
"""Seconds that a process may take to end; a process that hangs is killed at once."""
SUPERVISOR_START_SECONDS = 10.0
"""Seconds that a supervisor may take to start."""
PROBE_SECONDS = 1.0
"""Seconds to wait for the lock: `is_locked` holds it for a moment, as for `device status`."""
MAX_LOG_BYTES = 1 << 20
"""Bytes of service.log from which on the file is emptied at a start."""
STATUS_SECONDS = 2.0
"""Seconds between two writes of the state to the disk, which may be a card that wears out."""
_PR_SET_PDEATHSIG = 1


def supervise(layout: Layout) -> None:
    """Keeps the current release running until SIGTERM, SIGINT or SIGHUP.

    Raises Refused where another supervisor runs here, or where a release fails outside a trial.
    """
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) asks
            signal.signal(number, lambda number, _: asked.append(number))
    busy = f"{layout.root}: a supervisor is at work already"
    with hold_lock(layout.state("supervisor.lock"), PROBE_SECONDS, busy), Listener() as listener:
        take_over_links(layout)
        while not asked:
            release, trial = release_to_start(layout)
            run = _ReleaseRun(layout, release, trial, listener)
            try:
                why = run.watch(lambda: bool(asked))
            finally:
                run.end()
            if why is None:
                continue
            if trial is None:
                log_event(layout, "ended", release=release, why=why)
                raise Refused(f"the release {release}: {why}")
            fail_trial(layout, trial, why)
        notify(STOPPING=1)


def take_over_links(layout: Layout) -> None:
    """Makes the links anew in the state, where an earlier version kept them in the root.

    `current` comes last: from then on those in the state count.
    """
    if layout.link("current") == layout.state("current"):
        return
    for name in reversed(LINKS):
        if (release := read_link(layout, name)) is not None:
            link = layout.state(name)
            clear_place(link)
            link.symlink_to(Path("..", "releases", release))


def start_supervisor(layout: Layout) -> None:
    """Starts a supervisor without systemd. It outlives the caller, and writes service.log.

    Raises Refused where it does not start.
    """
    if is_locked(layout.state("supervisor.lock")):
        return
    log = layout.state("service.log")
    if log.is_symlink() or not log.is_file():
        clear_place(log)
    long = log.exists() and log.stat().st_size > MAX_LOG_BYTES
    how = os.O_TRUNC if long else os.O_APPEND
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | how
    with open(os.open(log, flags, 0o640), "ab") as out:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", layout.root / TOOL, "supervise", layout.root],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    until = time.monotonic() + SUPERVISOR_START_SECONDS
    while not is_locked(layout.state("supervisor.lock")):
        if process.poll() is not None or time.monotonic() >= until:
            raise Refused("the service does not begin; see its log")
        time.sleep(POLL_SECONDS)


class _ReleaseRun:
    """One process of a release."""

    def __init__(
        self, layout: Layout, release: str, trial: Trial | None, listener: Listener
    ) -> None:
        self._layout, self._release, self._trial = layout, release, trial
        self._listener = listener
        self._config = self._refused = _config_mtime(layout)
        self._state, self._noted = "", -STATUS_SECONDS
        with suppress(OSError):  # a full disk must not stop the pictures
            clear_place(layout.state(STATUS))
            clear_place(layout.state(VIEW_RECORD))
            clear_place(layout.state(SINK_COUNTS))
        program = layout.release(release) / ENVIRONMENT / "bin" / "sonolite"
        environment = {
            **os.environ,
            NOTIFY_VARIABLE: listener.address,
            "SONOLITE_TRUST": str(layout.root / TRUSTED),
            "XDG_STATE_HOME": str(layout.state("")),  # a service has no home
            "PYTHONUNBUFFERED": "1",
        }
        environment.pop("WATCHDOG_USEC", None)
        self._clock = UptimeClock()
        self._check = TrialCheck(self._clock(), trial)
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: str | None = None
        try:
            read_config(layout.root / CONFIG)
            self._process = subprocess.Popen(  # noqa: S603
                [program, "serve", layout.root, release],
                env=environment,
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        except (OSError, Refused) as error:
            self._failed = f"it cannot be started: {error}"

    def watch(self, stop: Callable[[], bool]) -> str | None:
        """Watches the process; returns why it failed, or None where it has to end otherwise."""
        while not stop():
            if self._failed is not None:
                return self._failed
            message = self._listener.receive(BEAT_TIMEOUT)
            now = self._clock()
            if message and message.get("MAINPID") == str(self._process.pid if self._process else 0):
                self._check.beat(now, message.get("STATUS", ""))
                self._note(now, message.get("STATUS", ""))
                notify(READY=1, WATCHDOG=1, STATUS=message.get("STATUS", ""))
            elif self._check.starting:
                notify(WATCHDOG=1)  # the check has its own limit for the start
            if self._process is not None and (code := self._process.poll()) is not None:
                return f"it ended with {code}"
            if self._trial and self._check.passed():
                pass_trial(self._layout, self._trial)
                self._check, self._trial = TrialCheck(now, None), None
            if (why := self._check.failure(now)) is not None:
                return why
            if self._changed():
                return None
        return None

    def end(self) -> None:
        """Ends the process, and kills it where it does not end in time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            stop_timeout = 0 if self._check.failure(self._clock()) else STOP_SECONDS
            self._process.wait(stop_timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _changed(self) -> bool:
        """Whether another release, trial or configuration has to run now."""
        if read_link(self._layout, "current") != self._release:
            return True
        trial = trial_of_current(self._layout)
        return self._configured_anew() or (trial is not None and trial.starts == 0)

    def _configured_anew(self) -> bool:
        """Whether there is another configuration. One that cannot be used is told, and waits."""
        changed = _config_mtime(self._layout)
        if changed == self._config:
            return False
        try:
            read_config(self._layout.root / CONFIG)
        except Refused as error:
            if changed != self._refused:
                self._refused = changed
                log_event(self._layout, "not configured", release=self._release, why=str(error))
            return False
        return True

    def _note(self, now: float, state: str) -> None:
        """Writes the state to the disk for `device status`."""
        if state != self._state and now - self._noted >= STATUS_SECONDS:
            self._state, self._noted = state, now
            note = {"release": self._release, "state": state}
            with suppress(OSError):
                write_json_file(self._layout.state(STATUS), note, durable=False)


def _config_mtime(layout: Layout) -> int:
    """The time of the last change of the configuration; 0 where there is none."""
    try:
        return (layout.root / CONFIG).stat().st_mtime_ns
    except OSError:
        return 0


def end_with_parent(supervisor: int) -> None:
    """Asks the kernel to kill this process when its parent ends (prctl(2)).

    A release without a supervisor would hold the scanner that the next release needs. Where the
    supervisor was killed before this call, the process kills itself.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGKILL)
