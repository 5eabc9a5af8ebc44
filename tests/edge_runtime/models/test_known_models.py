"""A model that crashes the interpreter is refused in one line, and a good one is tried once."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput, HardwareMissing
from devices.compute import first_opening
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.files import state_folder
from edge_runtime.models import known_models
from edge_runtime.models.classifier import CPU, BackendRequest, Classifier
from edge_runtime.models.known_models import KNOWN_FOLDER
from tests.conftest import refused, sonolite
from tests.edge_runtime.models.broken import resigned, with_absurd_scale, without_its_first_table

PHANTOM = ("--source", "phantom:?live=no&frames=2")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the known models of somebody new."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return state_folder() / KNOWN_FOLDER


@pytest.fixture
def broken(demo_bundle: Bundle, tmp_path: Path) -> Path:
    model = with_absurd_scale(demo_bundle.read("int8.tflite"))
    return resigned(demo_bundle, "int8.tflite", model, tmp_path / "broken.sonolite")


def open_classifier(bundle: Bundle, request: BackendRequest = CPU) -> Classifier:
    """As a process does that has tried nothing."""
    known_models._TRIED.clear()
    return Classifier(bundle, bundle.manifest.classifier, threads=1, request=request)


def test_a_model_that_crashes_is_refused_by_every_command(broken: Path, state: Path) -> None:
    done = sonolite("run", broken, *PHANTOM)
    refused(done, "int8.tflite: the model crashes its interpreter (SIGABRT; at most ")
    done = sonolite("doctor", broken, "--json")
    assert done.code == 3, done
    assert "crashes its interpreter (SIGABRT" in done.stdout
    assert not state.exists()


def test_a_locator_that_crashes_is_refused(shipped_path: Path, tmp_path: Path) -> None:
    shipped = open_bundle(shipped_path)
    assert shipped.manifest.locator is not None
    member = shipped.manifest.locator.variants["int8"]
    model = without_its_first_table(shipped.read(member))
    path = resigned(shipped, member, model, tmp_path / "x.sonolite")
    refused(sonolite("run", path, *PHANTOM), f"{member}: the model crashes its interpreter (SIG")
    found = sonolite("doctor", path, "--json").stdout
    assert f"{member}: the model crashes" in found


def test_a_device_does_not_take_a_release_that_crashes(broken: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True)
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "sonolite" / "trusted"
    (root / "trusted").symlink_to(config)
    refused(sonolite("release", "check", broken, root), "the model crashes its interpreter")


def test_a_crash_is_told_with_its_signal(demo_bundle: Bundle, tmp_path: Path) -> None:
    model = without_its_first_table(demo_bundle.read("int8.tflite"))
    path = resigned(demo_bundle, "int8.tflite", model, tmp_path / "x.sonolite")
    with pytest.raises(BadInput, match=r"int8\.tflite: the model crashes .*\(SIGSEGV; "):
        open_classifier(open_bundle(path))


def test_a_model_that_hangs_is_given_up(
    demo_bundle: Bundle, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_opening, "FIRST_SECONDS", 1)
    request = BackendRequest("delegate", str(stand_in), (("hang", "2"),))
    with pytest.raises(BadInput, match=r"int8\.tflite: the model was not open and tried in 1 s"):
        open_classifier(demo_bundle, request)


def test_a_model_that_takes_too_much_memory_is_refused(demo_bundle: Bundle, stand_in: Path) -> None:
    request = BackendRequest("delegate", str(stand_in), (("take", "5"),))
    with pytest.raises(BadInput, match=r"SIGABRT; at most 41\d\d MB of memory"):
        open_classifier(demo_bundle, request)


def test_what_the_backend_refuses_is_refused_in_its_own_words(
    demo_bundle: Bundle, stand_in: Path
) -> None:
    request = BackendRequest("delegate", str(stand_in), (("missing", "1"),))
    with pytest.raises(HardwareMissing, match="no hardware on the bus"):
        open_classifier(demo_bundle, request)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The processes that were started to try models."""
    started: list[object] = []
    run = subprocess.run

    def counted(*words: object, **options: object) -> object:
        started.append(words)
        return run(*words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("devices.compute.first_opening.subprocess.run", counted)
    return started


def test_a_good_model_is_tried_once(
    demo_bundle: Bundle, state: Path, tries: list[object], stand_in: Path
) -> None:
    for _ in range(2):
        open_classifier(demo_bundle)
    assert len(tries) == 1
    assert [path.stat().st_mode & 0o777 for path in (state, *state.iterdir())] == [0o700, 0o600]
    library = BackendRequest("delegate", str(stand_in))
    for _ in range(2):
        open_classifier(demo_bundle, library)
    assert len(tries) == 2
    os.utime(stand_in, (time.time(), time.time() + 1))
    open_classifier(demo_bundle, library)
    assert len(tries) == 3


def test_another_bundle_is_tried_again(
    demo_bundle: Bundle, state: Path, tries: list[object], version: Callable[[int], Path]
) -> None:
    open_classifier(demo_bundle)
    open_classifier(open_bundle(version(2)))
    assert len(tries) == 2


def test_what_others_may_have_written_is_not_believed(
    demo_bundle: Bundle, state: Path, tries: list[object], tmp_path: Path
) -> None:
    open_classifier(demo_bundle)
    state.chmod(0o777)
    open_classifier(demo_bundle)
    assert len(tries) == 2, "open to all"
    state.chmod(0o700)
    state.rename(tmp_path / "aside")
    state.symlink_to(tmp_path / "aside")
    open_classifier(demo_bundle)
    assert len(tries) == 3, "a link"
    state.unlink()
    state.write_text("no folder")
    open_classifier(demo_bundle)
    assert len(tries) == 4, "a file"


def test_what_another_user_wrote_is_not_believed(
    demo_bundle: Bundle, state: Path, tries: list[object]
) -> None:
    if os.getuid():
        pytest.skip("only root gives a file to another user")
    open_classifier(demo_bundle)
    (known,) = state.iterdir()
    os.chown(known, 12345, 12345)
    open_classifier(demo_bundle)
    assert len(tries) == 2


def test_without_a_state_it_is_tried_once_in_each_process(
    demo_bundle: Bundle, tries: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that opens a model again, as after a hang, does not wait for that."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nobody")
    for processes in (1, 2):
        open_classifier(demo_bundle)
        Classifier(demo_bundle, demo_bundle.manifest.classifier, threads=1)
        assert len(tries) == processes


def test_a_process_that_cannot_start_is_told(
    demo_bundle: Bundle, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(HardwareMissing, match=r"int8\.tflite: no process to try it in: No such"):
        open_classifier(demo_bundle)
