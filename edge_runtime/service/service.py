"""The deployed service: it runs the source of the configuration in one session after another.

The service tells its supervisor the state at every heartbeat. It writes changes to stdout as JSON
lines for the journal: states and counts, never a label, a picture or a patient.
"""

import gc
import json
import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from devices import BadInput, CaptureDevice, DeviceLost, HardwareMissing, describe_error
from devices.boards import Board, read_board
from devices.capture.paced import PacedRecording
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import Bundle, open_trusted
from edge_runtime.bundle.trust import VERSIONS_FILE, AdmittedVersions, read_trusted
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import default_threads
from edge_runtime.models.locator import Locator
from edge_runtime.release.config import Config, ExamSettings, read_config
from edge_runtime.release.drift_files import DRIFT_FOLDER
from edge_runtime.release.layout import (
    BUNDLE,
    CONFIG,
    EXAMS,
    SINK_COUNTS,
    TRUSTED,
    Layout,
    Refused,
    read_link,
    set_aside,
    write_json_file,
)
from edge_runtime.release.notify import notify
from edge_runtime.results.delivery import Delivery, Tally
from edge_runtime.results.states import State
from edge_runtime.screen.region import Region, parse_roi
from edge_runtime.screen.saved_regions import (
    REGIONS_FILE,
    SavedRegion,
    ScreenSize,
    saved_regions_of,
)
from edge_runtime.service.live_view import NoSession, ServiceView
from edge_runtime.service.update_lock import UpdateLock
from edge_runtime.session.assemble import Session, assemble, open_source
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.drift import open_aggregates
from edge_runtime.sinks.open import SINK_SCHEMES, SinkContext, is_counted, open_sink
from edge_runtime.sinks.sink import Sink
from edge_runtime.sinks.sink_uri import SinkUri
from edge_runtime.view import session_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_runtime.exams.recorder import ExamRecorder
    from edge_runtime.exams.worklist import Worklist
    from edge_runtime.view.operator import Operator

_LOGGER = logging.getLogger(__name__)

BEAT_SECONDS = 0.2
"""Seconds between two beats in the same state."""
NOTE_SECONDS = 5.0
"""Seconds between two writes of the counts to the disk, which may be a card that wears out."""
RETRY_SECONDS = 2.0
"""Seconds between two attempts to open a scanner that is not there."""


def device_versions(layout: Layout) -> AdmittedVersions:
    """The newest versions that passed their trial on a device."""
    return AdmittedVersions(layout.state(VERSIONS_FILE))


def run_service(layout: Layout, release: str, stop: threading.Event) -> None:
    """Runs a release until `stop` is set. Without a scanner it waits for one.

    Raises BadInput where the configuration or the bundle cannot be used. Raises it too for a region
    that does not lie on the screen, but only before the release has passed its trial: later it is
    the screen that changed, and it may change back.
    """
    try:
        config = read_config(layout.root / CONFIG)
    except Refused as error:
        raise BadInput(str(error)) from error
    bundle = open_trusted(
        layout.release(release) / BUNDLE, read_trusted(layout.root / TRUSTED).keys
    )
    board = read_board(config.board) if config.board else None
    chain = FallbackChain(bundle, bundle.manifest.classifier, board=board)
    _open_models(chain)
    service = _Service(layout, release, bundle, board, config.exam is not None)
    if (note := device_versions(layout).note) is not None:
        service.report("versions gone", why=note)
    with ExitStack() as stack:
        stack.callback(service.update_lock.end)
        sinks = [*_open_sinks(config, service, stack), *_open_aggregates(service, stack)]
        if config.view.address:
            view = ServiceView(config.view, layout, service.report, service.operator(config))
            service.view = stack.enter_context(view)
            sinks.append(service.view)
        while not stop.is_set():
            _session(config, chain, service, sinks, stop)
            gc.collect()  # the parts of an ended session refer to each other, and hold pictures
    service.note_sinks()


def _open_models(chain: FallbackChain) -> None:
    """Opens the models before the first beat: a first opening may take a minute, a beat may not.

    Raises as `FallbackChain.opened` and `Locator` do.
    """
    chain.threads = chain.threads or default_threads(live=True)
    chain.opened()
    if (stage := chain.bundle.manifest.locator) is not None:
        Locator(chain.bundle, stage, threads=chain.threads)  # each session opens one anew


def _open_sinks(config: Config, service: "_Service", stack: ExitStack) -> list[Sink]:
    """The sinks of the configuration; they stay open from session to session.

    Raises BadInput for a sink that cannot be opened, but only before the release has passed its
    trial: later the pictures matter more, and `device status` tells why there is no such sink.
    """
    sinks: list[Sink] = []
    tallies = service.sink_context.tallies
    for entry in config.sink:
        uri, opened = SinkUri(entry.uri), len(tallies)
        try:
            if uri.kind in SINK_SCHEMES and not is_counted(uri):
                raise BadInput(f"[[sink]] {uri}: not for a service")
            sinks.append(stack.enter_context(open_sink(entry.uri, service.sink_context)))
        except Exception as error:
            if not service.passed_trial:
                raise
            why = describe_error(error)
            service.report("sink not opened", why=why)
            failed = Tally(uri.name)
            failed.fail(why)
            tallies[opened:] = [failed]
    return sinks


def _open_aggregates(service: "_Service", stack: ExitStack) -> list[Sink]:
    """The daily aggregates, which every device keeps; without them the service runs, too."""
    uri = SinkUri(f"drift:{service.drift_folder}")
    try:
        return [stack.enter_context(open_aggregates(uri, service.aggregates))]
    except Exception as error:
        service.aggregates.fail(describe_error(error))
        return []


def _session(
    config: Config,
    chain: FallbackChain,
    service: "_Service",
    sinks: list[Sink],
    stop: threading.Event,
) -> None:
    """One session with a scanner, or one wait for it. A recording plays at its own frame rate."""
    if config.roi:
        parse_roi(config.roi)  # a wrong region is refused before the wait for a scanner
    source = SourceUri(config.source)
    try:
        device: CaptureDevice = open_source(source)
    except (BadInput, DeviceLost, HardwareMissing) as error:
        service.wait(stop, NoSession.NO_SCANNER, why=str(error))
        return
    if not device.live:
        device = PacedRecording(device)
    with device:
        # A refused model ends the service; after a refused picture it waits, see below.
        session = assemble(
            device,
            chain,
            config.roi,
            service.saved_regions(source),
            throttle=service.throttle,
            whole_picture=config.whole_picture,
            prevalence=config.prevalence,
            operated=service.view is not None,
            follow=config.follow,
        )
        ended = threading.Event()

        def heartbeat(state: State) -> None:
            service.beat(state)
            if stop.is_set():
                ended.set()

        service.device_is_live = device.live
        with ExitStack() as stack:
            exam_sinks = []
            if config.exam is not None:
                exam_sinks = _keep_exams(config.exam, session, source, service, stack)
            if service.view is not None:
                facts = session_facts(
                    device.live,
                    session.budget,
                    chain.stage.decision.margin,
                    chain.classifier.has_evidence,
                    exams=service.recorder is not None,
                    received=device.received is not None,
                    worklist=service.worklist is not None,
                    follow=session.region.may_follow,
                )
                stack.enter_context(service.view.session(facts, session.region, service.recorder))
            no_picture: str | None = None
            try:
                summary, lost = session.run([*sinks, *exam_sinks], ended, heartbeat)
            except BadInput as error:  # the region does not lie on the screen
                if not (device.live and service.passed_trial):
                    raise
                no_picture = str(error)
        if no_picture is not None:
            service.wait(stop, NoSession.NO_PICTURE, why=no_picture)
            return
    if device.live:
        seconds, why = round(summary.seconds, 1), None if lost is None else str(lost)
        service.report(
            "session ended",
            read=summary.read,
            classified=summary.classified,
            not_judged=summary.not_judged,
            seconds=seconds,
            why=why,
        )
    else:
        stop.wait(BEAT_SECONDS)  # before the recording begins again: it may be a single picture
    if isinstance(lost, HardwareMissing):
        raise lost  # inference hung several times: only a new process helps


def _keep_exams(
    settings: ExamSettings,
    session: Session,
    source: SourceUri,
    service: "_Service",
    stack: ExitStack,
) -> list[Sink]:
    """The sink that keeps exams while `stack` is open; none where exams cannot be kept.

    Raises whatever prevents it, but only before the release has passed its trial.
    """
    from edge_runtime.exams.store import Retention  # here: few devices keep exams
    from edge_runtime.session.kept_exams import keep_exams

    retention = Retention(settings.keep_days, round(settings.keep_gigabytes * 1e9))
    exam_sinks = service.sink_context.exam_sinks or ()
    try:
        recorder, sink = stack.enter_context(
            keep_exams(session, source, service.exams, retention, exam_sinks)
        )
    except Exception as error:
        if not service.passed_trial:
            raise
        service.report("exams not kept", why=describe_error(error))
        return []
    service.recorder = recorder
    stack.callback(service.forget_recorder)
    return [sink]


class _Service:
    """Reports the work of a release: to the supervisor, the journal and the update lock."""

    def __init__(
        self,
        layout: Layout,
        release: str,
        bundle: Bundle,
        board: Board | None,
        keeps_exams: bool,
    ) -> None:
        self._layout, self._release, self._bundle = layout, release, bundle
        self.update_lock = UpdateLock(layout.root)
        self.device_is_live = False
        self.view: ServiceView | None = None
        self.recorder: ExamRecorder | None = None
        """Keeps the exams of the session that runs; None where none are kept."""
        self.worklist: Callable[[], Worklist] | None = None
        """Asks for the patients of the day; None where patients are typed."""
        self.exams = layout.state(EXAMS)
        self.throttle = Throttle(board)
        self._regions = layout.root / REGIONS_FILE
        self._remembered = layout.state(REGIONS_FILE)
        """The regions that an operator remembered."""
        self._admitted = False
        self._state: State | None = None
        self._last_report: str | None = None
        self._last_beat = self._noted_at = float("-inf")
        self._noted: list[Delivery] = []
        outboxes = layout.state("outbox")
        self.sink_context = SinkContext(
            threading.Event(),
            live=True,
            fps=0.0,
            outboxes=outboxes,
            exam_sinks=[] if keeps_exams else None,
            serves=True,
        )
        self.drift_folder = layout.state(DRIFT_FOLDER)
        self.aggregates = Tally("drift", may_lose=True)
        self._aggregates_error: str | None = None

    def beat(self, state: State) -> None:
        """Tells the supervisor that the session works, and holds the update lock while LIVE."""
        now = time.monotonic()
        changed = state is not self._state
        if not changed and now - self._last_beat < BEAT_SECONDS:
            return
        self._last_beat, self._state = now, state
        notify(MAINPID=os.getpid(), STATUS=state, WATCHDOG=1)
        if self.device_is_live:
            self.update_lock.beat(now, State.LIVE if self._examines(state) else state)
        if changed:
            self.report("state", state=str(state))
        if not self._admitted and self.passed_trial:
            self._admit()
        if now - self._noted_at >= NOTE_SECONDS:
            self._noted_at = now
            self.note_sinks()

    def _examines(self, state: State) -> bool:
        """Whether an exam runs, and there is a scanner; its picture may be frozen for long."""
        recorder = self.recorder
        return (
            recorder is not None and state is not State.LOST and recorder.status().begun is not None
        )

    def forget_recorder(self) -> None:
        """Keeps no exams from now on."""
        self.recorder = None

    def operator(self, config: Config) -> "Operator":
        """The operator of the page, who changes sessions on the source of the configuration.

        Raises as `_question` does.
        """
        from edge_runtime.view.operator import Operator  # here: few services have a view

        source = SourceUri(config.source)
        self._remembered_regions(source)  # a damaged file is set aside
        self.worklist = self._question(config)
        return Operator(
            Region(), source, self._remembered, self.throttle.celsius, worklist=self.worklist
        )

    def _question(self, config: Config) -> "Callable[[], Worklist] | None":
        """The question to the worklist of the configuration; None where there is none to ask.

        Raises BadInput where it cannot be asked, but only before the release has passed its trial.
        """
        if config.exam is None or not config.exam.worklist:
            return None
        from edge_runtime.exams.worklist import question_of_today

        try:
            return question_of_today(config.exam.worklist)
        except BadInput as error:
            if not self.passed_trial:
                raise
            self.report("no worklist", why=str(error))
            return None

    def saved_regions(self, source: SourceUri) -> dict[ScreenSize, SavedRegion]:
        """The saved regions of a source; a remembered region of interest replaces a saved one.

        Raises BadInput where the file of the person who deployed cannot be read.
        """
        saved = saved_regions_of(self._regions, source)
        for screen, entry in self._remembered_regions(source).items():
            saved[screen] = replace(saved[screen], roi=entry.roi) if screen in saved else entry
        return saved

    def _remembered_regions(self, source: SourceUri) -> dict[ScreenSize, SavedRegion]:
        """What an operator remembered; a damaged file is set aside, and told."""
        try:
            return saved_regions_of(self._remembered, source)
        except BadInput as error:
            self.report("regions not remembered", why=str(error))
            set_aside(self._remembered)
            return {}

    def note_sinks(self) -> None:
        """Writes the counts of the sinks to the disk for `device status`, where they changed.

        The journal tells an error of the daily aggregates.
        """
        error = self.aggregates.delivery().last_error
        if error != self._aggregates_error:
            self._aggregates_error = error
            self.report("aggregates not kept", why=error)
        counts = [tally.delivery() for tally in self.sink_context.tallies]
        if counts == self._noted:
            return
        self._noted = counts
        content = {"sinks": [asdict(count) for count in counts]}
        with suppress(OSError):  # a full disk must not stop the pictures
            write_json_file(self._layout.state(SINK_COUNTS), content, durable=False)

    @property
    def passed_trial(self) -> bool:
        """Whether the release has passed its trial on this device."""
        return read_link(self._layout, "good") == self._release

    def wait(self, stop: threading.Event, event: NoSession, why: str) -> None:
        """Reports why there is no session, and waits RETRY_SECONDS."""
        self.report(event, why=why)
        if self.view is not None:
            self.view.wait(event, why)
        until = time.monotonic() + RETRY_SECONDS
        while not stop.is_set() and time.monotonic() < until:
            self.beat(State.LOST)
            stop.wait(2 * BEAT_SECONDS)

    def report(self, event: str, **facts: object) -> None:
        """Writes one line for the journal, unless it is the same as the last one."""
        record = {"event": event, "release": self._release, "bundle": self._bundle.id, **facts}
        if (line := json.dumps(record)) != self._last_report:
            self._last_report = line
            _LOGGER.info("%s of the release %s", event, self._release)
            print(
                json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **record}),
                flush=True,
            )

    def _admit(self) -> None:
        """Notes the version of the bundle; from now on the device refuses an older one."""
        assert self._bundle.signature is not None
        manifest = self._bundle.manifest
        self._admitted = True
        try:
            device_versions(self._layout).admit(
                self._bundle.signature.key, manifest.name, manifest.version
            )
        except (BadInput, OSError) as error:  # the session goes on: the pictures matter more
            self.report("version not noted", why=str(error))
