"""A run and a bundle whose model has an embedding, and with it a scope."""

from pathlib import Path

import pytest

from tests.conftest import TINY, sonolite

NETWORK = """[network]
kind = "efficientnet-lite"
width = 0.25
depth = 0.25
dropout = 0.1
outputs = ["evidence", "embedding"]
"""
RECIPE = (
    TINY[: TINY.index("[network]")] + NETWORK + "[augmentation]\n" + TINY[TINY.index("[fit]") :]
).replace("label_agreement = 0.90", "label_agreement = 0.0")


@pytest.fixture(scope="package")
def scoped_run(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    folder = tmp_path_factory.mktemp("scoped")
    (folder / "lite.toml").write_text(
        RECIPE.replace("auroc_drop = 0.05", "auroc_drop = 1.0").replace(
            "sensitivity_drop = 0.20", "sensitivity_drop = 1.0"
        )
    )
    done = sonolite("train", labelled, "--recipe", folder / "lite.toml", "--out", folder / "run")
    assert done.code == 0, done
    return folder / "run"


@pytest.fixture(scope="package")
def scoped_bundle(scoped_run: Path) -> Path:
    path = scoped_run.parent / "lite.sonolite"
    done = sonolite("convert", scoped_run, "--out", path, "--variants", "float32,int8")
    assert done.code == 0, done
    return path
