"""A run and a bundle whose model has an embedding, and with it a scope."""

from pathlib import Path

import pytest

from tests.conftest import TINY, Shared, sonolite

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


@pytest.fixture(scope="session")
def scoped_run(shared: Shared, labelled: Path) -> Path:
    def make(folder: Path) -> None:
        (folder / "lite.toml").write_text(
            RECIPE.replace("auroc_drop = 0.05", "auroc_drop = 1.0").replace(
                "sensitivity_drop = 0.20", "sensitivity_drop = 1.0"
            )
        )
        words = ("train", labelled, "--recipe", folder / "lite.toml", "--out", folder / "run")
        done = sonolite(*words)
        assert done.code == 0, done

    return shared("scoped", make) / "run"


@pytest.fixture(scope="session")
def scoped_bundle(shared: Shared, scoped_run: Path) -> Path:
    def make(folder: Path) -> None:
        words = ("convert", scoped_run, "--out", folder / "lite.sonolite")
        done = sonolite(*words, "--variants", "float32,int8")
        assert done.code == 0, done

    return shared("scoped_bundle", make) / "lite.sonolite"
