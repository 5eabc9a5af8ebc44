"""The pages say what is so: their commands and Python examples run, and their names are the code's.

A page's ```` ```sh ```` and ```` ```python ```` blocks run as they stand. A block with a title is
the file of that name. Indented commands are records of measurements, which take hours and data that
is not here: their words are those of the command line.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import typer
import typer.main

from devices.boards import Board, Sensors, board_names, read_board
from devices.capture import device_opener
from devices.capture.camera import parse_camera
from devices.capture.phantom import Phantom
from devices.capture.script import WORDS
from docs.recipe_page import page as recipe_page
from edge_runtime.bench.measure import read_bench
from edge_runtime.bench.report import markdown
from edge_runtime.cli import command_line
from edge_runtime.results.states import State
from edge_runtime.sinks.open import SINK_SCHEMES
from edge_runtime.sinks.video import VIDEO_CODECS
from tests.conftest import TINY, draw_labelled, sonolite

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ORDER = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
"""The pages of the site in their order."""
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = [*FRONT, *(DOCS / name for name in ORDER)]
ELSEWHERE = {"deploy.md"}
"""Pages whose commands need a device: `tests.edge_runtime.deploy.test_page` runs them."""
SERVED = {"worklist"}
"""Commands that need a server: `tests.edge_runtime.commands.test_dicom_in` runs them."""
STORED = sorted((DOCS / "benchmarks").glob("*.json"))


def text_of(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, those with a title included."""
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of each line of the shell blocks, without comments."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def files(text: str) -> dict[str, str]:
    """The files that a page shows, by name."""
    found = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    return dict(found)


def recorded(text: str) -> list[list[str]]:
    """The words of each indented `sonolite` command."""
    return [shlex.split(line) for line in re.findall(r"^    (sonolite .*)$", text, re.MULTILINE)]


def write_sweep(path: Path) -> None:
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*VIDEO_CODECS[".mp4"]), 20.0, (640, 480)
    )
    phantom = Phantom(live=False)
    for index in range(40):
        writer.write(phantom.render(index))
    writer.release()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, messy: Path) -> Path:
    """The folder of a reader who goes through all pages: images, a sweep, and the pages' files."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "my-images").symlink_to(messy)
    draw_labelled(folder / "other-images", patients=5, first=20)
    (folder / "lungs").mkdir()
    write_sweep(folder / "lungs" / "lung.mp4")
    write_sweep(folder / "sweep.mp4")
    (folder / "quick.toml").write_text(TINY.replace("epochs = 30", "epochs = 1"))
    for path in PAGES:
        for name, content in files(path.read_text()).items():
            (folder / name).write_text(content)
    return folder


@pytest.fixture
def _few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` tries two classical methods that learn in a moment."""
    import train.compare
    from tests.train.test_compare import FEW

    monkeypatch.setattr("train.compare.compare", partial(train.compare.compare, methods=FEW))


WALK = [
    (name, words)
    for name in ORDER
    if name not in ELSEWHERE
    for command, *words in commands(text_of(name))
    if command == "sonolite" and words[0] not in SERVED
]
"""The page and the words of each command, in order."""


@pytest.fixture(scope="module")
def ahead() -> Iterator[tuple[int, list[str]]]:
    """The commands that have not run yet, each with its place."""
    return enumerate(words for _, words in WALK)


@pytest.mark.usefixtures("_few_methods")
@pytest.mark.parametrize(
    "place", range(len(WALK)), ids=[f"{name}-{' '.join(words)}" for name, words in WALK]
)
def test_the_command_of_the_page_runs(
    place: int,
    ahead: Iterator[tuple[int, list[str]]],
    desk: Path,
    slim_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one folder, page after page, and after those before it; less is learnt than a reader
    would.

    The first training is the one that other tests share. Later ones take a quick recipe where they
    name none.
    """
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(desk / "config"))
    for step, words in ahead:
        run_command(words, slim_run)
        if step == place:
            return


def run_command(words: list[str], slim_run: Path) -> None:
    words = words[: words.index(">")] if ">" in words else words
    if words == ["train", "my-images", "--out", "run"]:
        shutil.copytree(slim_run, "run")
        return
    recipe = ["--recipe", "quick.toml"] if words[0] == "train" and "--recipe" not in words else []
    done = sonolite(*words, *recipe)
    allowed = {0, 1} if words[0] == "validate" else {0}  # so few images may break a limit
    assert done.code in allowed, done


def test_the_pages_show_every_command() -> None:
    shown = {words[1] for path in PAGES for words in commands(path.read_text()) if len(words) > 1}
    app: Any = typer.main.get_command(command_line("--help"))
    for_people = {name for name, command in app.commands.items() if not command.hidden}
    assert for_people <= shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_recorded_command_is_one(path: Path) -> None:
    for _, command, *words in recorded(path.read_text()):
        app: Any = typer.main.get_command(command_line(command))
        chosen = app.commands[command] if hasattr(app, "commands") else app
        chosen.make_context(command, list(words))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_other_command_is_known(path: Path) -> None:
    """A target of the Makefile, a test that exists, or a word of the shell."""
    for command, *words in commands(path.read_text()):
        if command == "make":
            dry = ["make", "--dry-run", "--always-make", *words]
            done = subprocess.run(dry, cwd=ROOT, capture_output=True, check=False)
            assert done.returncode == 0, (words, done.stderr)
        elif command.endswith("pytest"):
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
        else:
            assert command in {"sonolite", "sudo", ".", "python3"}, command


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_examples_run(path: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(path.read_text(), "python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_python_examples() -> None:
    assert {path.name for path in PAGES if blocks(path.read_text(), "python")} >= {
        "plug-ins.md",
        "sources.md",
    }


@pytest.mark.parametrize("path", FRONT, ids=lambda path: path.name)
def test_links_of_the_pages_outside_the_site_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not link.startswith("https://"):
            assert (ROOT / link.partition("#")[0]).exists(), link


def test_the_map_names_every_folder_and_no_other() -> None:
    block = re.search(r"## The map\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    named, parent = set(), ""
    for line in block[1].splitlines():
        words = re.split(r"  +", line.strip())[0]
        parent = "" if line[0] != " " else parent
        for word in words.split(", "):
            assert (ROOT / parent / word).exists(), word
            named.add(f"{parent}{word}")
        parent = words if line[0] != " " else parent
    top = {line.split("/")[0] + "/" for line in tracked if "/" in line and line[0] != "."}
    assert top <= named
    layers = {
        "/".join(line.split("/")[:2]) + "/"
        for line in tracked
        if line.startswith(("edge_runtime/", "devices/")) and line.count("/") > 1
    }
    assert layers - {"edge_runtime/demo_keys/"} <= named


def test_to_change_x_open_y_names_files_and_their_contents() -> None:
    table = text_of("architecture.md").partition("## To change X, open Y")[2]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]
    assert len(rows) >= 12
    for task, places in rows:
        named = re.findall(r"`([^`]+)`", places)
        paths = [word for word in named if "/" in word]
        assert paths, task
        assert all((ROOT / path).exists() for path in paths), (task, paths)
        contents = "".join(
            inner.read_text()
            for path in paths
            for inner in ((ROOT / path).glob("*.toml") if path.endswith("/") else [ROOT / path])
        )
        for word in named:
            if re.fullmatch(r"[A-Z_]+|[a-z]+_[a-z_]+", word):
                assert word in contents, (task, word)


def test_the_recipe_page_is_that_of_the_code() -> None:
    """`make docs` writes it anew."""
    assert text_of("recipe.md") == recipe_page()


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "site").glob("*.html"):
        html = path.read_text()
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', html)
        loaded += re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)[^>]*>', html)
        assert loaded, path
        assert not [place for place in loaded if "//" in place], path


@pytest.mark.parametrize(
    "term",
    [
        *("sample", "group", "run", "recipe", "variant", "gate", "bundle", "stage", "frame"),
        *("capture device", "backend", "fallback chain", "frame slot", "queue", "throttle"),
        *("watchdog", "silence limit", "drain timeout", "region of interest", "result", "nodule"),
        *("track", "state", "sink", "operating point", "threshold", "margin", "temperature"),
        *("evidence", "embedding", "scope", "out-of-scope score"),
    ],
)
def test_the_glossary_has_the_term_once(term: str) -> None:
    assert text_of("glossary.md").count(f"| **{term}** |") == 1


def test_the_page_on_running_live_has_every_state_and_every_sink() -> None:
    page = text_of("live.md")
    assert re.findall(r"^\| ([A-Z]+) \| ", page, re.MULTILINE) == [str(state) for state in State]
    assert set(re.findall(r"`([a-z]+):(?:FILE|-)?`", page)) == set(SINK_SCHEMES)


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.stem)
def test_the_figures_on_speed_are_those_of_the_stored_run(stored: Path) -> None:
    assert markdown(read_bench(stored)) in text_of("benchmarks.md")


def test_there_is_a_stored_run() -> None:
    assert STORED


def test_the_steps_of_a_script_are_all_that_there_are() -> None:
    table = text_of("sources.md").partition("| step |")[2]
    steps = re.findall(r"^\| `(\w+[^`]*)` \| ", table, re.MULTILINE)
    assert {step.split()[0] for step in steps} == set(WORDS)
    for step in steps:
        device_opener(f"script:{step}")


def test_the_uri_of_a_camera_asks_for_a_mode() -> None:
    (uri,) = re.findall(r"^    (v4l2:\S+)$", text_of("sources.md"), re.MULTILINE)
    assert all(parse_camera(uri)[1])


def test_the_example_of_a_board_has_every_entry_that_the_page_explains(desk: Path) -> None:
    read_board(str(desk / "my-board.toml"))
    for kind in (Board, Sensors):
        missing = {field.name for field in fields(kind) if f"`{field.name}`" not in BOARDS}
        assert not missing


BOARDS = text_of("boards.md")


def test_every_board_is_named() -> None:
    listed = next(line for line in BOARDS.splitlines() if line.startswith("`coral"))
    assert re.findall(r"`([^`]+)`", listed) == board_names()


def test_the_levels_of_heat_are_those_of_the_raspberry_pi() -> None:
    thermal = read_board("raspberry-pi-5").thermal
    assert thermal == read_board("raspberry-pi-4").thermal
    for level in ("half", "quarter", "single", "withheld"):
        row = next(line for line in BOARDS.splitlines() if line.startswith(f"| {level} |"))
        assert f"{getattr(thermal, level):g} °C" in row
