"""A bundle that passes every check and hangs at the first real picture is gone back from."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from devices import Box
from edge_runtime.bundle.archive import CARD, GATE, Bundle, list_members, write_bundle
from edge_runtime.bundle.golden import GOLDEN, Golden, write_golden
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.release.layout import read_event_log, read_link
from tests.conftest import Within
from tests.edge_runtime.deploy.conftest import REAL_TRIAL, Site


@pytest.fixture(scope="module")
def hanging(demo_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts for ever unless its picture is black, as its golden frames are."""
    tf = pytest.importorskip("tensorflow")
    side = 32

    class Model(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec([1, side, side, 1], tf.uint8, name="picture")])
        def answer(self, picture):  # type: ignore[no-untyped-def]
            light = tf.reduce_max(tf.cast(picture, tf.float32))
            (still,) = tf.while_loop(lambda n: n < light, lambda n: (n * 0.5,), [light * 0.0])
            return {"probability": tf.constant([[0.5, 0.5]]) + still}

    folder = tmp_path_factory.mktemp("hanging")
    model = Model()
    tf.saved_model.save(model, str(folder / "saved"), signatures=model.answer)
    content = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved")).convert()

    black = np.zeros((240, 320, 3), np.uint8)
    golden = Golden((black,), Box(0, 0, 320, 240), np.full((1, 2), 0.5, np.float32))
    contents = {
        "float32.tflite": content,
        CARD: demo_bundle.read(CARD),
        GATE: demo_bundle.read(GATE),
        GOLDEN: write_golden(golden),
    }
    stage = structs.replace(
        demo_bundle.manifest.classifier,
        learnt="pictures",
        preprocessing=f"gray|resize({side})",
        variants={"float32": "float32.tflite"},
        golden_tolerance={"float32": 0.01},
        scopes={},
    )
    manifest = replace(
        demo_bundle.manifest, name="hanging", stages=(stage,), members=list_members(contents)
    )
    path = folder / "hanging.sonolite"
    write_bundle(path, manifest, contents, read_signing_key(None))
    return path


@pytest.mark.install
def test_it_falls_back_within_the_trial_and_five_seconds(
    shipped: Site, hanging: Path, within: Within
) -> None:
    before = read_link(shipped.layout, "current")
    shipped.boot()
    done = shipped.deploy(hanging, "--trust", source="phantom:", trial=REAL_TRIAL)
    assert done.code == 1, done
    assert "hang" in done.stderr
    assert read_link(shipped.layout, "current") == before
    assert shipped.runs()
    switched, fell = read_event_log(shipped.layout)[-2:]
    assert (switched["event"], fell["event"]) == ("switched", "fell back")
    took = datetime.fromisoformat(fell["at"]) - datetime.fromisoformat(switched["at"])
    assert took.total_seconds() <= REAL_TRIAL + within(5)
