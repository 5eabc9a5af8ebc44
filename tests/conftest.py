"""What many tests stand on: labelled pictures of the phantom, a trained run, bundles."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from devices import Pixels
from devices.capture.image import read_image
from devices.capture.phantom import Phantom
from edge_runtime.bundle.archive import (
    CARD,
    GATE,
    Bundle,
    list_members,
    open_bundle,
    write_bundle,
)
from edge_runtime.bundle.golden import GOLDEN
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.bundle.trust import trusted_folder
from edge_runtime.cli import main
from edge_runtime.results.result import Result

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The tests' own process has TensorFlow, and no graphics driver beside it: see `convert.gpu`.
os.environ["VK_ICD_FILENAMES"] = os.devnull
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],  # of a busy machine
)
settings.load_profile("ci")

REAL = Path(os.environ.get("SONOLITE_REAL", "no-such-folder"))
"""Real pictures, which are not part of the project; see CONTRIBUTING.md."""
TN5000, SWEEPS, CASES = REAL / "data" / "tn5000", REAL / "data" / "sweeps", REAL / "cases"

TINY = """
about = "For tests: learns the phantom's two kinds of nodule in seconds."
preprocessing = "gray|crop(context=1.2)|resize(32)"
[task]
name = "phantom nodule"
labels = ["benign", "malignant"]
aliases = { "0" = "benign", "1" = "malignant" }
[network]
kind = "convolutions"
filters = [8, 16]
head = "average"
dropout = 0.0
[fit]
learning_rate = 1e-2
batch = 16
epochs = 30
patience = 30
[operating_point]
sensitivity = 0.90
[decision]
smoothing_seconds = 0.5
margin = 0.02
[limits]
auroc_drop = 0.05
sensitivity_drop = 0.20
label_agreement = 0.90
"""

SLIM = (
    TINY.partition("[network]")[0]
    + """\
[network]
kind = "efficientnet-lite"
weights = "random"
width = 0.25
depth = 0.25
dropout = 0.2
outputs = ["evidence", "embedding"]
[fit]
learning_rate = 1e-3
batch = 16
epochs = 2
schedule = "cosine"
warmup = 0.1
[augmentation]
[operating_point]"""
    + TINY.partition("[operating_point]")[2]
)
"""All of a network of inverted residuals, and too little time to learn anything."""

FINDER = """
kind = "locator"
about = "For tests: all of a locator, and too little time to learn anything."
preprocessing = "gray|crop(context=1)|resize(64)"
channels = 16
false_frames = 0.05
[network]
kind = "efficientnet-lite"
weights = "random"
width = 0.25
depth = 0.25
dropout = 0.1
[fit]
learning_rate = 1e-3
batch = 4
steps = 6
frozen = 0
[sampling]
marked = 0.7
empty = 0.3
other = 0.0
simulated = 0.0
[augmentation]
[tracking]
start_score = 0.5
keep_score = 0.25
min_iou = 0.2
confirm_seconds = 0.1
confirm_hits = 2
coast_seconds = 0.2
lost_seconds = 1.0
max_nodules = 4
[pooling]
memory_seconds = 3.0
correlation_seconds = 0.4
view_deviation = 1.0
full_sharpness = 0.06
min_seconds = 0.2
hysteresis = 0.02
hold_seconds = 0.5
[limits]
ap50_drop = 0.99
recall_drop = 0.99
"""


KILLED = """
import os, signal, sys
import train.batches
from edge_runtime.cli import main

batch = train.batches.Batches.__getitem__
asked = []

def killed(self, number):
    asked.append(number)
    if len(asked) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, number)

train.batches.Batches.__getitem__ = killed
main(sys.argv[1:])
"""
"""A `sonolite train` that is killed while it prepares its eighth batch."""


WORKER = "PYTEST_XDIST_WORKER"
"""Names a process of several that run the tests, in the environment of that process."""
if WORKER in os.environ:
    # Two processes fill two cores; with more threads each they only wait for one another.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")

Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """`shared(name, make)`: a folder that `make` fills once for all processes of the test run.

    The first process that asks for the folder makes it; the others wait. Nobody may change it.
    """
    root = tmp_path_factory.getbasetemp()
    if WORKER in os.environ:
        root = root.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path, complete = root / name, root / f"{name}.complete"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                make(path)
                complete.touch()
        return path

    return folder


QUIET = "SONOLITE_QUIET" in os.environ
"""Whether nothing else runs on this machine, as `make test-slow` takes it."""

Within = Callable[[float], float]


@pytest.fixture
def within() -> Within:
    """`within(seconds)`: the limit for what the program promises to do in that time.

    On a machine that has other work only a hang is told from an answer.
    """
    return lambda seconds: seconds if QUIET else max(60.0, 10 * seconds)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that hold the program to a time.

    Several processes begin with the slow tests, so that they end together; `--dist loadfile` keeps
    the tests of a module in one process.
    """
    if WORKER in os.environ:
        order = {"deploy": 0, "convert": 1, "train": 2, "end_to_end": 3}
        items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    for item in items:
        if "within" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timing)


@pytest.fixture(scope="session", autouse=True)
def _person(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[Path]:
    """Somebody with a signing key who trusts the demo's too, instead of whoever runs the tests.

    Each process has a copy of its own, which tests may change.
    """

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(folder))
            done = sonolite("keys", "new")
            assert done.code == 0, done
            shipped = resources.files("edge_runtime") / "demo_keys" / "demo.pem"
            (trusted_folder() / "demo.pem").write_bytes(shipped.read_bytes())

    home = tmp_path_factory.mktemp("home")
    shutil.copytree(shared("person", make), home / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        yield home


def draw_labelled(folder: Path, patients: int = 15, images: int = 2, first: int = 0) -> Path:
    """Class folders `LABEL/PATIENT/n.png` of the phantom's nodules, with a CSV of their boxes.

    No two patients are alike, those of another `first` included.
    """
    lines = ["path,label,xmin,ymin,xmax,ymax,group"]
    for number in range(first, first + patients):
        for kind, label in enumerate(("benign", "malignant")):
            # Each patient has a neck of his own: one seed gives both kinds in near equal pictures.
            seed = 2 * number + kind
            phantom = Phantom(seed=seed, width=320, height=240, nodule=label, live=False)
            patient = folder / label / f"{label}{number:02}"
            patient.mkdir(parents=True)
            for still in range(images):
                moment = 34 + 12 * still
                cv2.imwrite(str(patient / f"{still}.png"), phantom.render(moment))
                box = phantom.nodule_box(moment)
                assert box is not None
                name = f"{label}/{patient.name}/{still}.png"
                x, y, w, h = box
                lines.append(f"{name},{label},{x},{y},{x + w},{y + h},{patient.name}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def labelled(shared: Shared) -> Path:
    """60 images of 30 patients, half of them malignant; a folder with a manifest."""
    return shared("images", lambda folder: draw_labelled(folder / "phantoms")) / "phantoms"


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe for tests that look at anything but what was learnt."""
    path = tmp_path_factory.mktemp("recipe") / "one.toml"
    path.write_text(TINY.replace("epochs = 30", "epochs = 1"))
    return path


@pytest.fixture(scope="session")
def messy(shared: Shared, labelled: Path) -> Path:
    """Class folders as people have them: two scanners, a picture twice, and what is none."""

    def make(place: Path) -> None:
        folder = place / "images"
        shutil.copytree(labelled, folder)
        (folder / "manifest.csv").unlink()
        for label in ("benign", "malignant"):
            for patient in range(1, 15, 2):
                for image in (folder / label / f"{label}{patient:02}").iterdir():
                    cv2.imwrite(str(image), cv2.resize(read_image(image), (400, 300)))
        benign = folder / "benign"
        shutil.copy(benign / "benign00" / "0.png", benign / "benign04" / "a.png")
        (benign / "benign01" / "broken.png").write_text("no image")
        cv2.imwrite(str(benign / "benign02" / "small.png"), np.zeros((40, 40), np.uint8))

    return shared("messy", make) / "images"


@pytest.fixture(scope="session")
def slim_run(shared: Shared, messy: Path) -> Path:
    """A run of inverted residuals on those images, with evidence, embedding and scope."""

    def make(folder: Path) -> None:
        (folder / "slim.toml").write_text(SLIM)
        words = ("train", messy, "--recipe", folder / "slim.toml", "--out", folder / "run")
        done = sonolite(*words)
        assert done.code == 0, done
        assert "1 dropped: unreadable" in done.stderr

    return shared("slim", make) / "run"


@pytest.fixture(scope="session")
def run_folder(shared: Shared, labelled: Path, tiny_recipe: Path) -> Path:
    """A run that `sonolite train` made of the phantom's images."""

    def make(folder: Path) -> None:
        done = sonolite("train", labelled, "--recipe", tiny_recipe, "--out", folder / "run")
        assert done.code == 0, done

    return shared("run", make) / "run"


@pytest.fixture(scope="session")
def bundle_path(shared: Shared, run_folder: Path) -> Path:
    """The bundle that `sonolite convert` made of that run."""

    def make(folder: Path) -> None:
        done = sonolite("convert", run_folder, "--out", folder / "tiny.sonolite")
        assert done.code == 0, done

    return shared("bundle", make) / "tiny.sonolite"


@pytest.fixture(scope="session")
def shipped_path() -> Iterator[Path]:
    """The bundle that ships in the package."""
    with resources.as_file(resources.files("edge_runtime") / "demo.sonolite") as path:
        yield path


@pytest.fixture(scope="session")
def demo_path(shared: Shared, shipped_path: Path) -> Path:
    """The classifier of that bundle alone, signed by the tests' own key: nodules are marked."""

    def make(folder: Path) -> None:
        shipped = open_bundle(shipped_path)
        stage = shipped.manifest.classifier
        names = {*stage.members.values(), CARD, GATE, GOLDEN}
        contents = {name: shipped.read(name) for name in names}
        contents[CARD] = contents[CARD].partition(b"\n\n## Locator\n")[0] + b"\n"
        manifest = replace(shipped.manifest, stages=(stage,), members=list_members(contents))
        write_bundle(folder / "demo.sonolite", manifest, contents, read_signing_key(None))

    return shared("demo", make) / "demo.sonolite"


def draw_marked(folder: Path, patients: int = 8) -> Path:
    """Whole pictures of the phantom with a table of the nodules' boxes, and without labels.

    Each patient has two pictures with a nodule and one without.
    """
    lines = ["path,xmin,ymin,xmax,ymax,group"]
    folder.mkdir()
    for number in range(patients):
        phantom = Phantom(seed=number, width=320, height=240, live=False)
        left, top, w, h = phantom.picture
        for moment in (5, 34, 46):
            name = f"p{number:02}_{moment}.png"
            whole = phantom.render(moment)[top : top + h, left : left + w]
            cv2.imwrite(str(folder / name), whole)
            box = phantom.nodule_box(moment)
            corners = ("",) * 4
            if box is not None:
                x, y = box.x - left, box.y - top
                corners = (str(x), str(y), str(x + box.w), str(y + box.h))
            lines.append(",".join((name, *corners, f"p{number:02}")))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def draw_clips(folder: Path) -> Path:
    """A clip of the phantom for each part of the split: the nodule comes, with a table of boxes."""
    lines = ["clip,frame,xmin,ymin,xmax,ymax,split"]
    folder.mkdir()
    for seed, part in enumerate(("train", "validation", "test"), start=50):
        phantom = Phantom(seed=seed, width=320, height=240, live=False)
        left, top, w, h = phantom.picture
        path = folder / f"{part}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (w, h))
        assert writer.isOpened()
        for frame in range(20):
            moment = 2 + 2 * frame
            writer.write(phantom.render(moment)[top : top + h, left : left + w])
            box = phantom.nodule_box(moment)
            if box is not None:
                x, y = box.x - left, box.y - top
                lines.append(f"{path.name},{frame},{x},{y},{x + box.w},{y + box.h},{part}")
        writer.release()
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def marked(shared: Shared) -> Path:
    """24 whole pictures of 8 patients, 16 of them with the box of a nodule."""
    return shared("marked", lambda folder: draw_marked(folder / "pictures")) / "pictures"


@pytest.fixture(scope="session")
def marked_clips(shared: Shared) -> Path:
    """Three clips of 20 frames each, with the boxes of their nodules."""
    return shared("marked_clips", lambda folder: draw_clips(folder / "clips")) / "clips"


@pytest.fixture(scope="session")
def locator_run(shared: Shared, marked: Path, marked_clips: Path) -> Path:
    """A run that `sonolite train` made of a locator, from those pictures and clips."""

    def make(folder: Path) -> None:
        (folder / "finder.toml").write_text(FINDER)
        words = ("train", marked, "--also", marked_clips, "--recipe", folder / "finder.toml")
        done = sonolite(*words, "--out", folder / "run")
        assert done.code == 0, done

    return shared("locator", make) / "run"


@pytest.fixture(scope="session")
def lively_run(shared: Shared, locator_run: Path, marked: Path) -> Path:
    """The same run with a network whose scores lie about 0.5, so that it finds something."""

    def make(folder: Path) -> None:
        from train.locator.run import read_locator_run

        run = folder / "run"
        shutil.copytree(locator_run, run)
        import keras

        read = read_locator_run(run)
        model, last = read.model, read.model.get_layer("score_logits")
        last.bias.assign([0.0])
        pictures = np.stack([cv2.resize(read_image(its), (64, 64)) for its in marked.glob("*.png")])
        logits = np.asarray(keras.Model(model.input, last.output)(pictures[..., :1]))
        last.kernel.assign(last.kernel / logits.std())
        last.bias.assign([-logits.mean() / logits.std()])
        replace_model(run, model.save)

    return shared("lively", make) / "run"


def replace_model(run: Path, save: Callable[[Path], object]) -> None:
    """Gives the run of a locator another model, which `save` writes."""
    save(run / "model.keras")
    record = json.loads((run / "run.json").read_bytes())
    record["model_sha256"] = hashlib.sha256((run / "model.keras").read_bytes()).hexdigest()
    (run / "run.json").write_text(json.dumps(record))


@pytest.fixture(scope="session")
def finder_path(shared: Shared, lively_run: Path, demo_path: Path) -> Path:
    """A bundle of two stages: the classifier of the demo, and the locator of that run."""

    def make(folder: Path) -> None:
        words = ("convert", lively_run, "--classifier", demo_path, "--variants", "int8")
        done = sonolite(*words, "--out", folder / "finder.sonolite")
        assert done.code == 0, done

    return shared("finder", make) / "finder.sonolite"


@pytest.fixture(scope="session")
def demo_bundle(demo_path: Path) -> Bundle:
    return open_bundle(demo_path)


@pytest.fixture(scope="session")
def found_bundle(shipped_path: Path) -> Bundle:
    """The bundle that ships, which has a locator."""
    return open_bundle(shipped_path)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(happened: Callable[[], object], seconds: float = 120.0) -> None:
    """Waits for what another thread or process does."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root mounts a disk of its own")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def screen() -> np.ndarray:
    """One screen of the phantom with its nodule in view."""
    return Phantom(live=False).render(40)


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of the phantom: `make_video("name.mp4", frames=12)`."""

    def make(name: str, frames: int = 12, width: int = 320, height: int = 240) -> Path:
        path = tmp_path / name
        phantom = Phantom(width=320, height=240, live=False)
        fourcc = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
        writer = cv2.VideoWriter(str(path), fourcc, 20.0, (width, height))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(cv2.resize(phantom.render(index), (width, height)))
        writer.release()
        return path

    return make


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


def sonolite(*arguments: str | Path) -> Outcome:
    """Runs `sonolite ARGUMENTS` in this process, as the shell's command does."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    code = stopped.value.code
    said = out.buffer.getvalue().decode()
    return Outcome(code if isinstance(code, int) else 0, said, err.getvalue())


def refused(outcome: Outcome, *words: str) -> None:
    """Asserts exit code 2 and, after notes on the data, one clear line that names all `words`."""
    assert outcome.code == 2, outcome
    *notes, line = outcome.stderr.strip().splitlines()
    assert all(note.startswith("note: ") for note in notes), outcome
    assert line.startswith("sonolite: "), outcome
    for word in words:
        assert word in line, outcome


@pytest.fixture
def version(demo_bundle: Bundle, tmp_path: Path) -> Callable[[int], Path]:
    """Writes the shipped model as version N, signed by the tests' own key."""
    contents = {name: demo_bundle.read(name) for name in demo_bundle.manifest.members}

    def write(number: int) -> Path:
        path = tmp_path / f"v{number}.sonolite"
        manifest = replace(demo_bundle.manifest, name="own", version=number)
        write_bundle(path, manifest, contents, read_signing_key(None))
        return path

    return write


class Collected:
    """A sink that keeps what it is told."""

    wants_pixels, latest_only = False, False

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result, pixels: Pixels) -> None:
        self.results.append(result)


@pytest.fixture(scope="session")
def pictures() -> list[Pixels]:
    """Thirty frames of a small phantom, each so unlike the one before that none looks frozen.

    A machine that has other work may take long from one to the next.
    """
    phantom = Phantom(width=320, height=240, live=False)
    return [phantom.render(7 * index) for index in range(30)]


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An accelerator's library that does what its options say; see `stand_in.c`."""
    source = Path(__file__).parent / "devices" / "compute" / "stand_in.c"
    return compiled(source, tmp_path_factory.mktemp("stand_in") / "libstand_in.so")


def compiled(source: Path, library: Path) -> Path:
    """The shared library that a C source makes."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt install gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library
