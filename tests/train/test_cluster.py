"""Several processes learn one model; when one is lost, the others say so and can go on."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from tests.conftest import KILLED, SLIM, TINY, Outcome, refused, sonolite
from tests.train.conftest import without_seconds
from train.cluster import ALONE, join, read_cluster
from train.run import read_record

SONOLITE = "import sys; from edge_runtime.cli import main; main(sys.argv[1:])"


def addresses(count: int) -> list[str]:
    """Free ports on loopback."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    names = [f"127.0.0.1:{door.getsockname()[1]}" for door in doors]
    for door in doors:
        door.close()
    return names


def config(names: Sequence[str], index: int) -> str:
    return json.dumps({"cluster": {"worker": names}, "task": {"type": "worker", "index": index}})


def together(*commands: Sequence[str | Path], programs: Sequence[str] = ()) -> list[Outcome]:
    """Runs one `sonolite` for each worker, the chief's first, and waits for all."""
    names = addresses(len(commands))
    programs = programs or [SONOLITE] * len(commands)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            env={**os.environ, "TF_CONFIG": config(names, index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, (words, program) in enumerate(zip(commands, programs, strict=True))
    ]
    ended = []
    for its in running:
        stdout, stderr = its.communicate(timeout=500)
        ended.append(Outcome(its.returncode, stdout, stderr))
    return ended


@pytest.mark.slow
def test_two_workers_learn_what_one_learns_alone(tmp_path: Path, labelled: Path) -> None:
    """Without what depends on a worker's own pictures: dropout and batch statistics."""
    recipe = tmp_path / "a.toml"
    recipe.write_text(TINY.replace("epochs = 30", "epochs = 3"))
    words: list[str | Path] = ["train", labelled, "--recipe", recipe, "--out"]
    alone = sonolite(*words, tmp_path / "alone")
    assert alone.code == 0, alone
    chief, other = together([*words, tmp_path / "run"], [*words, tmp_path / "run"])
    assert chief.code == other.code == 0, (chief, other)
    assert "note: worker 2 of 2; waits up to 60 s for the others" in other.stderr
    assert "done; the chief writes the run" in other.stderr
    one, two = (keras.saving.load_model(tmp_path / its / "model.keras") for its in ("alone", "run"))
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        assert np.allclose(a, b, atol=1e-4)
    alone_auroc, auroc = (read_record(tmp_path / its).history[-1].auroc for its in ("alone", "run"))
    assert auroc == pytest.approx(alone_auroc, abs=0.02)


@pytest.mark.slow
def test_two_workers_teach_a_student(tmp_path: Path, labelled: Path) -> None:
    """Nothing is mixed: a worker mixes the pictures of its share alone."""
    recipe = tmp_path / "a.toml"
    table = "[distillation]\nteachers = 2\nlearning_rate = 1e-2\nepochs = 3\nmixup = 0\n"
    hasty = TINY.replace("epochs = 30", "epochs = 4").replace("patience", "#")
    recipe.write_text(f"{hasty}\n{table}")
    words: list[str | Path] = ["train", labelled, "--recipe", recipe, "--out"]
    alone = sonolite(*words, tmp_path / "alone")
    assert alone.code == 0, alone
    chief, other = together([*words, tmp_path / "run"], [*words, tmp_path / "run"])
    assert chief.code == other.code == 0, (chief, other)
    one, two = read_record(tmp_path / "alone"), read_record(tmp_path / "run")
    assert len(two.teachers) == 2
    for a, b in zip(one.teachers + one.history, two.teachers + two.history, strict=True):
        assert b.loss == pytest.approx(a.loss, abs=1e-3)
        assert b.validation_loss == pytest.approx(a.validation_loss, abs=1e-3)


def assert_lost(outcomes: list[Outcome]) -> None:
    """Asserts that the second worker was killed, and that the chief says what to do."""
    chief, lost = outcomes
    assert lost.code == -signal.SIGKILL, lost
    assert chief.code == 2, chief
    *_, line = chief.stderr.strip().splitlines()
    assert line.startswith(
        "sonolite: another worker is gone; start all of them again with --resume"
    )


@pytest.mark.slow
def test_a_lost_worker_ends_the_training(tmp_path: Path, labelled: Path, tiny_recipe: Path) -> None:
    words: list[str | Path] = ["train", labelled, "--recipe", tiny_recipe, "--out"]
    words.append(tmp_path / "run")
    assert_lost(together(words, words, programs=[SONOLITE, KILLED]))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_resume_after_a_lost_worker_goes_on_to_the_same_result(tmp_path: Path, messy: Path) -> None:
    """With statistics, dropout and a schedule; the second worker is killed in an epoch."""
    recipe = tmp_path / "a.toml"
    recipe.write_text(SLIM.replace("epochs = 2", "epochs = 4"))
    words: list[str | Path] = ["train", messy, "--recipe", recipe, "--out"]
    whole = together([*words, tmp_path / "a"], [*words, tmp_path / "a"])
    assert [its.code for its in whole] == [0, 0], whole
    broken = [*words, tmp_path / "b"]
    assert_lost(together(broken, broken, programs=[SONOLITE, KILLED]))
    chief, other = together([*broken, "--resume"], [*broken, "--resume"])
    assert chief.code == other.code == 0, (chief, other)
    assert "epoch 1:" not in chief.stderr
    one, two = read_record(tmp_path / "a"), read_record(tmp_path / "b")
    assert without_seconds(one.history) == without_seconds(two.history)
    assert one.metrics == two.metrics


@pytest.mark.slow
def test_a_worker_with_another_task_is_refused(tmp_path: Path, labelled: Path) -> None:
    recipe = tmp_path / "a.toml"
    recipe.write_text(TINY)
    words: list[str | Path] = ["train", labelled, "--recipe", recipe, "--out", tmp_path / "a"]
    chief, other = together(words, [*words, "--seed", "1"])
    refused(other, "the seed or the data of this worker are not the chief's")
    assert chief.code == 2, chief
    assert "another worker is gone" in chief.stderr


def test_a_worker_that_never_comes_is_named() -> None:
    names = addresses(3)
    with pytest.raises(BadInput, match=rf"{names[1]}, {names[2]} did not come within 0\.2 s"):
        join({"TF_CONFIG": config(names, 0)}, join_timeout_s=0.2)
    with pytest.raises(BadInput, match=f"{names[0]} did not come"):
        join({"TF_CONFIG": config(names, 2)}, join_timeout_s=0.2)


def test_a_port_in_use_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        name = f"127.0.0.1:{door.getsockname()[1]}"
        with pytest.raises(BadInput, match=f"{name}, this worker: "):
            join({"TF_CONFIG": config([name, *addresses(1)], 0)})


def test_without_a_cluster_a_process_is_alone() -> None:
    assert join({}) == ALONE
    assert join({"TF_CONFIG": config(["127.0.0.1:7000"], 0)}) == ALONE


def test_the_chief_is_the_first() -> None:
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    task = {"type": "worker", "index": 1}
    text = json.dumps({"cluster": jobs, "task": task})
    assert read_cluster({"TF_CONFIG": text}) == ((("c", 3), ("a", 1), ("b", 2)), 2)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"cluster": {"worker": ["a:1"]}}',
        config(["a:1", "b:2"], 2),
        config(["a:1", "b:2"], -1),
        config(["a:1", "a:1"], 0),
        config(["a:1", "b"], 0),
        config(["a:1", "b:70000"], 0),
        config(["a:1", ":2"], 0),
    ],
)
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="TF_CONFIG: expected"):
        read_cluster({"TF_CONFIG": text})


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda its: (
            st.lists(its)
            | st.dictionaries(st.sampled_from(["cluster", "task", "worker", "type", "index"]), its)
        ),
    )
)
def test_no_text_gives_anything_but_a_refusal(config: object) -> None:
    with pytest.raises(BadInput, match="TF_CONFIG: expected"):
        read_cluster({"TF_CONFIG": json.dumps(config)})


def test_folds_are_for_one_machine(
    tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", config(addresses(2), 0))
    refused(sonolite("train", labelled, "--folds", "2", "--out", tmp_path / "a"), "unset TF_CONFIG")
