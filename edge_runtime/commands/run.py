"""`sonolite run` and `demo`: a session from the arguments to the summary."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devices import BadInput, CaptureDevice
from devices.boards import read_board
from devices.capture.paced import PacedRecording
from devices.capture.registry import examples, on_disk, scheme_of
from devices.capture.source_uri import SourceUri
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.manifest import Variant
from edge_runtime.bundle.shipped import open_shipped
from edge_runtime.bundle.trust import admitted_versions
from edge_runtime.commands.links import say_link_notes
from edge_runtime.commands.options import (
    DAYS,
    GIGABYTES,
    BundleArgument,
    FollowOption,
    JsonOption,
    RoiOption,
    finite,
    stopped_by_signals,
    trusted_keys,
)
from edge_runtime.commands.run_options import (
    WantedExam,
    WantedView,
    exam_from_options,
    open_browser,
    view_from_options,
    view_of_demo,
    worklist_from_options,
)
from edge_runtime.files import refuse_existing
from edge_runtime.models.backends import FallbackChain, parse_backend
from edge_runtime.release.address import DEFAULT_ADDRESS
from edge_runtime.results.result import NOTICE
from edge_runtime.results.states import State
from edge_runtime.screen.region import parse_roi
from edge_runtime.screen.saved_regions import (
    SavedRegion,
    ScreenSize,
    saved_regions_file,
    saved_regions_of,
)
from edge_runtime.service.update_lock import UpdateLock
from edge_runtime.session.assemble import Session, assemble, open_source
from edge_runtime.session.pipeline import LATENCY_BUDGET
from edge_runtime.session.record_settings import RECORD_GIGABYTES, recorded_settings
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.single import SingleResult
from edge_runtime.text import say
from edge_runtime.view import session_facts

if TYPE_CHECKING:
    from edge_runtime.exams.recorder import ExamRecorder
    from edge_runtime.exams.worklist import Worklist
    from edge_runtime.session.frame_recorder import FrameRecorder
    from edge_runtime.sinks.sink import ExamSink
    from edge_runtime.view.operator import Operator
    from edge_runtime.view.sink import View

EvidenceOption = Annotated[
    bool, typer.Option("--evidence", help="Tint the places in the video that speak for a label.")
]
WholePictureOption = Annotated[
    bool,
    typer.Option("--whole-picture", help="Classify the whole picture where no nodule is marked."),
]
PrevalenceOption = Annotated[
    str | None,
    typer.Option(
        help="The share of the positive class where you work, such as 0.1, or of each class, such "
        "as a=0.2,b=0.3,c=0.5."
    ),
]


DEMO_SOURCE, WATCHED_SOURCE = "phantom:?frames=240", "phantom:?frames=1200"
"""Twelve seconds, and a minute for somebody who watches."""
DEMO_ROI = "167,190,108,100"
"""A region around the nodule of the phantom, with room for the movement of the nodule."""


def run(
    bundle: BundleArgument,
    source: Annotated[
        str,
        typer.Option(help=f"What to classify: {examples()}"),
    ],
    roi: RoiOption = None,
    follow: FollowOption = False,
    variant: Annotated[
        Variant | None,
        typer.Option(help="The variant of the model, such as int8; without it the fastest."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="cpu, gpu, edgetpu, or a delegate such as LIB.so?key=value. Repeat it for a "
            "fallback."
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(help="Take backends, threads and limits of a board, such as raspberry-pi-5."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Threads of the interpreter, such as 2; without it up to 4."
        ),
    ] = None,
    budget: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=10,
            callback=finite,
            help="Seconds after which a live result is stale, such as 0.25.",
        ),
    ] = LATENCY_BUDGET,
    save: Annotated[
        Path | None,
        typer.Option(help="A video with the overlay, .mp4 or .avi; of a single picture .png."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="One more place for results, such as jsonl:FILE or csv:FILE. Repeat it."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help=f"Show the live picture on a page for browsers, by default at {DEFAULT_ADDRESS}.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Keep the frames as they were judged in this new folder, to replay it as a "
            "source. The screen may show names of patients."
        ),
    ] = None,
    record_limit: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=GIGABYTES,
            callback=finite,
            help="Gigabytes that the record may have, such as 4.",
        ),
    ] = RECORD_GIGABYTES,
    exam: Annotated[
        Path | None,
        typer.Option(
            metavar="[FOLDER]",
            help="Keep an exam of the run in FOLDER, by default your own; see `sonolite exam`.",
        ),
    ] = None,
    exam_id: Annotated[
        str,
        typer.Option(help="Who is examined: a number or a code. It is kept with the exam alone."),
    ] = "",
    keep_days: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=DAYS,
            callback=finite,
            help="When an exam begins, delete exams that are older than so many days, such as 30.",
        ),
    ] = None,
    keep_gigabytes: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=GIGABYTES,
            callback=finite,
            help="When an exam begins, delete the oldest exams beyond this size, such as 10.",
        ),
    ] = None,
    worklist: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Offer the patients of a DICOM worklist where an exam begins on the page, such as "
            "192.168.1.5:104?called=MWL.",
        ),
    ] = None,
    view_tls: Annotated[
        bool,
        typer.Option("--view-tls", help="Encrypt the view with a certificate that is made here."),
    ] = False,
    view_certificate: Annotated[
        Path | None,
        typer.Option(help="Encrypt the view with this certificate, such as view.pem."),
    ] = None,
    view_key: Annotated[
        Path | None,
        typer.Option(
            help="The private key of the certificate, if the certificate's file does not hold it."
        ),
    ] = None,
    evidence: EvidenceOption = False,
    whole_picture: WholePictureOption = False,
    prevalence: PrevalenceOption = None,
    any_picture: Annotated[
        bool,
        typer.Option(
            "--any-picture", help="Label pictures that are out of the scope of the model, too."
        ),
    ] = False,
    allow_older: Annotated[
        bool,
        typer.Option(
            "--allow-older", help="Allow a bundle that is older than the one that ran here."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify the frames of a capture device or a recording; Ctrl-C ends it.

    The bundle must be signed by a trusted key; see `sonolite keys`.

    Example: sonolite run nodule.sonolite --source sweep.mp4 --roi 220,90,180,150 --save out.mp4

    Example: sonolite run nodule.sonolite --source 0 --record doubt

    Example: sonolite run nodule.sonolite --source 0 --exam --exam-id 4711 --keep-days 30
    """
    kept_exam = exam_from_options(exam, exam_id, keep_days, keep_gigabytes)
    asked = worklist_from_options(worklist, kept_exam is not None and view is not None)
    sinks = list(sink or ())
    if save is not None:
        _refuse_source(save, SourceUri(source))
        sinks.append(f"video:{save}")
    if evidence and not any(uri.startswith("video:") for uri in sinks):
        raise BadInput("--evidence needs a video; name one with --save")
    wanted_view = view_from_options(view, view_tls, view_certificate, view_key)
    versions = admitted_versions()
    opened = open_trusted(bundle, trusted_keys(), None if allow_older else versions)
    manifest, signature = opened.manifest, opened.signature
    assert signature is not None
    profile = None if board is None else read_board(board)
    requests = [parse_backend(word) for word in backend or ()]
    chain = FallbackChain(
        opened, manifest.classifier, requests, variant, threads, any_picture, profile
    )

    if (note := versions.note) is not None:
        say(f"note: {note}")

    def admit() -> None:
        try:
            versions.admit(signature.key, manifest.name, manifest.version)
        except (BadInput, OSError) as error:  # as in a home that is read-only
            reason = error.strerror if isinstance(error, OSError) else error
            say(f"note: this version is not kept, so that an older one is not noticed: {reason}")

    _run(
        chain,
        SourceUri(source),
        sinks,
        roi=roi,
        follow=follow,
        budget=budget,
        evidence=evidence,
        as_json=as_json,
        whole_picture=whole_picture,
        prevalence=prevalence,
        admit=admit,
        throttle=Throttle(profile),
        view=wanted_view,
        record=record,
        record_limit=record_limit,
        exam=kept_exam,
        worklist=asked,
    )
    if save is not None:
        say(f"saved {save}")


def demo(
    source: Annotated[
        str,
        typer.Argument(help="The source to classify, such as sweep.mp4; without it the phantom."),
    ] = DEMO_SOURCE,
    roi: RoiOption = None,
    follow: FollowOption = False,
    save: Annotated[
        Path, typer.Option(help="The file for the video with the results, such as demo.mp4.")
    ] = Path("demo.mp4"),
    evidence: EvidenceOption = False,
    whole_picture: WholePictureOption = False,
    prevalence: PrevalenceOption = None,
    no_view: Annotated[
        bool, typer.Option("--no-view", help="Show no live picture in a browser.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify a simulated neck live with the model in the package, and save a video of it.

    On a terminal it plays for a minute, and shows the live picture on a page for browsers.

    Example: sonolite demo

    Example: sonolite demo sweep.mp4 --roi 220,90,180,150
    """
    named = scheme_of(source)
    simulated = named is not None and named.simulated
    _refuse_source(save, SourceUri(source))
    view = None if no_view or as_json else view_of_demo(browse=simulated)
    with open_shipped() as bundle:
        searches = bundle.manifest.locator is not None
        if source == DEMO_SOURCE:
            source = DEMO_SOURCE if view is None else WATCHED_SOURCE
            roi = DEMO_ROI if roi is None and not searches else roi
        chain = FallbackChain(bundle, bundle.manifest.classifier, any_picture=simulated)
        _run(
            chain,
            SourceUri(source),
            [f"video:{save}"],
            roi=roi,
            follow=follow,
            evidence=evidence,
            as_json=as_json,
            whole_picture=whole_picture or (simulated and not searches),
            prevalence=prevalence,
            view=view,
        )
    say(f"saved {save}")
    if simulated:
        say("note: the classifier never saw a simulated neck; its labels here mean nothing")


def _refuse_source(save: Path, source: SourceUri) -> None:
    """Raises BadInput where the saved video would overwrite the source."""
    text = source.unexpanded
    if on_disk(text) and Path(text).resolve() in (save.resolve(), save.resolve().parent):
        raise BadInput(f"--save {save}: would overwrite or lie among the source {source}")


def _refuse_received(record: Path | None, exam: WantedExam | None) -> None:
    """Raises BadInput for options that make no sense where pictures are sent."""
    if record is not None:
        raise BadInput("--record: the pictures that are sent are not recorded; archive the objects")
    if exam is not None and exam.identity.patient_id:
        raise BadInput("--exam-id: the pictures that are sent say whom they show")


def _kept_lines(recorders: "list[FrameRecorder | ExamRecorder]") -> list[str]:
    """What the recorders kept, for a person."""
    return [line for recorder in recorders for line in recorder.lines()]


def _announce(chain: FallbackChain) -> None:
    """Opens the preferred backend; prints why each backend before it was refused."""
    classifier = chain.opened()
    for reason in chain.refused:
        say(f"fallback: {reason}")
    if chain.refused:
        say(f"fallback: {classifier.backend.compute.kind} computes {classifier.variant} instead")


def _run(
    chain: FallbackChain,
    source: SourceUri,
    sinks: list[str],
    *,
    roi: str | None,
    follow: bool,
    evidence: bool,
    as_json: bool,
    whole_picture: bool,
    prevalence: str | None,
    budget: float = LATENCY_BUDGET,
    admit: Callable[[], None] = lambda: None,
    throttle: Throttle | None = None,
    view: WantedView | None = None,
    record: Path | None = None,
    record_limit: float = RECORD_GIGABYTES,
    exam: WantedExam | None = None,
    worklist: "Callable[[], Worklist] | None" = None,
) -> None:
    """One session from the arguments to the summary; calls `admit` once the model is open."""
    if record is not None:
        refuse_existing(record)
    saved = saved_regions_of(saved_regions_file(), source)
    if roi is not None:
        parse_roi(roi)  # a wrong region is refused before the source opens
    else:
        _say_saved(saved)
    if as_json:
        sinks = ["jsonl:-", *sinks]
    if not as_json or (sys.stderr is not None and sys.stderr.isatty()):
        sinks = [*sinks, "terminal:"]
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        device: CaptureDevice = stack.enter_context(open_source(source))
        received = device.received
        if received is not None:
            _refuse_received(record, exam)
        if device.replay is not None and recorded_settings(device.replay).any_picture:
            chain.any_picture = True
        is_marked = roi is not None or any(entry.roi is not None for entry in saved.values())
        if follow and not is_marked and view is None and device.replay is None:
            raise BadInput("--follow: no nodule is marked to follow; mark it with --roi x,y,w,h")
        is_recording = not device.live and device.replay is None  # a record plays as it was judged
        if view is not None and view.paced and is_recording:
            device = PacedRecording(device)
        session = assemble(
            device,
            chain,
            roi,
            saved,
            budget,
            throttle,
            whole_picture,
            prevalence,
            operated=view is not None,
            follow=follow,
        )
        _announce(chain)
        if evidence and not chain.classifier.has_evidence:
            raise BadInput(f"--evidence: {chain.bundle.id} has no evidence map")
        admit()
        exam_sinks: list[ExamSink] | None = None if exam is None else []
        context = SinkContext(stop, device.live, device.fps, evidence, exam_sinks=exam_sinks)
        single = SingleResult()
        opened = [stack.enter_context(open_sink(uri, context)) for uri in sinks]
        if not device.endless:
            opened.append(single)
        recorders: list[FrameRecorder | ExamRecorder] = []

        def say_kept(error: type[BaseException] | None, *_: object) -> None:
            """After an error what was kept is told here, since no summary follows."""
            for line in _kept_lines(recorders) if error is not None else ():
                say(line)

        stack.push(say_kept)
        frame_recorder = None
        if record is not None:
            from edge_runtime.session.frame_recorder import open_frame_recorder  # here: few do

            frame_recorder = stack.enter_context(
                open_frame_recorder(record, device, source, session.settings, record_limit)
            )
            recorders.append(frame_recorder)
        exam_recorder = None
        if exam is not None:
            from edge_runtime.session.kept_exams import keep_exams  # here: few keep exams

            exam_recorder, exam_sink = stack.enter_context(
                keep_exams(session, source, exam.folder, exam.retention, exam_sinks or ())
            )
            recorders.append(exam_recorder)
            on_page = view is not None and not exam.identity.patient_id
            if received is None and not on_page:
                exam_recorder.begin(exam.identity)
            opened.append(exam_sink)
        if view is not None:
            from edge_runtime.view.operator import Operator  # here: few sessions have a view

            operator = Operator(
                session.region,
                source,
                saved_regions_file(),
                session.throttle.celsius,
                exam_recorder,
                worklist,
            )
            facts = session_facts(
                device.live,
                budget,
                chain.stage.decision.margin,
                chain.classifier.has_evidence,
                exams=exam is not None,
                received=received is not None,
                worklist=worklist is not None,
                follow=session.region.may_follow,
            )
            opened.append(stack.enter_context(_open_page(view, facts, operator)))
        update_lock = UpdateLock()
        stack.callback(update_lock.end)

        def heartbeat(state: State) -> None:
            if device.live:
                update_lock.beat(time.monotonic(), state)

        summary, ended = session.run(opened, stop, heartbeat, frame_recorder)
    lines = (single.line(), *summary.lines(), *_kept_lines(recorders), NOTICE)
    for line in filter(None, lines):
        say(line)
    for note in _notes(device, session, chain):
        say(f"note: {note}")
    if ended is not None:
        raise ended


def _say_saved(saved: Mapping[ScreenSize, SavedRegion]) -> None:
    """Prints the regions of interest that are saved for the source."""
    for (width, height), entry in saved.items():
        if entry.roi is not None:
            box = ",".join(map(str, entry.roi))
            say(f"region: {box} is saved for a screen of {width} x {height}")


@contextmanager
def _open_page(view: WantedView, facts: dict[str, Any], operator: "Operator") -> Iterator["View"]:
    """The page of the live view as a sink; prints its links."""
    from edge_runtime.view.sink import open_view

    with open_view(view.address, facts, operator, view.certificate) as page:
        say(f"view: {page.link}")
        say(f"operate: {page.operator_link}")
        say_link_notes(page.link, view.certificate.fingerprint if view.certificate else None)
        if view.browse:
            open_browser(page.link)
        yield page


def _notes(device: CaptureDevice, session: Session, chain: FallbackChain) -> Iterator[str]:
    """What a person should know of a session that has ended, beside its summary."""
    if device.replay is not None:
        from edge_runtime.session.replay import differences

        yield from differences(device.replay, session.settings, chain.classifier)
    for note, files in device.notes.items():
        yield note + (f" ({files} files)" if files > 1 else "")
    if session.region.roi is None and session.locator is None and chain.stage.learnt == "boxes":
        if session.region.whole:
            yield "the whole picture was classified; this model learnt marked nodules alone"
        else:
            yield "no nodule is marked; --roi x,y,w,h marks one, --whole-picture does without"
