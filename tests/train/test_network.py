"""The network keeps the model contract, whatever it is made of."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.network import BLOCKS, FusedNormalization, blocks, build, fold_temperature
from train.recipe import Convolutions, EfficientNetLite, MobileNetV2

SMALL = Convolutions(filters=(4,), head="average", dropout=0.2)
SLIM = EfficientNetLite(
    dropout=0.2,
    width=0.25,
    depth=0.25,
    outputs=("evidence", "embedding"),
)
KINDS = (EfficientNetLite, MobileNetV2)
SIDE = 64


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 1), np.uint8)


@pytest.fixture(scope="module")
def slim(pictures: NDArray[np.uint8]) -> keras.Model:
    """All outputs, of a model whose statistics are those of the pictures."""
    keras.utils.set_random_seed(0)
    model = build(SLIM, SIDE, 2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)
    return model


def log_odds(probability: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.log(probability[:, 1] / probability[:, 0])


def test_grey_bytes_go_in_and_a_named_probability_comes_out() -> None:
    model = build(SMALL, 32, 2)
    assert model.input.dtype == "uint8"
    answer = model.predict(np.zeros((3, 32, 32, 1), np.uint8), verbose=0)
    assert list(answer) == ["probability"]
    assert answer["probability"].sum(axis=1) == pytest.approx(1)


def test_scaling_to_one_is_inside_the_graph() -> None:
    model = build(SMALL, 32, 2)
    scale = keras.Model(model.input, model.get_layer("scale").output)
    assert scale(np.full((1, 32, 32, 1), 255, np.uint8)).numpy().max() == pytest.approx(1)


def test_the_temperature_divides_the_logits() -> None:
    model = build(SMALL, 32, 2)
    model.get_layer("logits").set_weights([np.ones((4, 2)) * [[1, -1]], np.array([0.5, -0.3])])
    picture = np.full((1, 32, 32, 1), 90, np.uint8)

    def its_log_odds() -> float:
        return float(log_odds(model.predict(picture, verbose=0)["probability"])[0])

    before = its_log_odds()
    fold_temperature(model, 2.5)
    assert its_log_odds() == pytest.approx(before / 2.5, rel=1e-4)


def test_the_evidence_of_all_places_is_the_answer(
    slim: keras.Model, pictures: NDArray[np.uint8]
) -> None:
    answer = slim.predict(pictures, verbose=0)
    assert answer["evidence"].shape == (3, 2, 2)
    assert np.ptp(answer["evidence"][0]) > 1e-3
    mean = answer["evidence"].mean(axis=(1, 2))
    assert mean == pytest.approx(log_odds(answer["probability"]), rel=1e-3, abs=1e-5)


def test_the_evidence_follows_the_temperature(
    slim: keras.Model, pictures: NDArray[np.uint8]
) -> None:
    before = slim.predict(pictures, verbose=0)
    weights = slim.get_weights()
    fold_temperature(slim, 2.5)
    after = slim.predict(pictures, verbose=0)
    slim.set_weights(weights)
    assert after["evidence"] == pytest.approx(before["evidence"] / 2.5, rel=1e-3, abs=1e-5)
    mean = after["evidence"].mean(axis=(1, 2))
    assert mean == pytest.approx(log_odds(after["probability"]), rel=1e-3, abs=1e-5)
    assert after["embedding"] == pytest.approx(before["embedding"])


def test_the_embedding_is_the_mean_of_the_early_and_middle_stages() -> None:
    whole = EfficientNetLite(dropout=0.2, outputs=("embedding",))
    model = build(whole, 32, 2)
    assert model.output["embedding"].shape == (None, 16 + 24 + 40 + 80 + 112)
    assert list(model.output) == ["probability", "embedding"]


@pytest.mark.parametrize(
    ("kind", "width", "depth", "published"),
    [
        # Of ImageNet's 1,000 classes, without the statistics of batch normalisation.
        (MobileNetV2, 1.0, 1.0, 3_504_872),
        (EfficientNetLite, 1.0, 1.0, 4_652_008),
        (EfficientNetLite, 1.0, 1.1, 5_416_680),
        (EfficientNetLite, 1.1, 1.2, 6_092_072),
    ],
)
def test_a_network_has_as_many_weights_as_the_published_one(
    kind: type[EfficientNetLite | MobileNetV2], width: float, depth: float, published: int
) -> None:
    network = kind(dropout=0.2, width=width, depth=depth)
    weights = sum(its.numpy().size for its in build(network, 32, 2).trainable_weights)
    colours, classes = 2 * 3 * 3 * 32, 998 * (1280 + 1)
    assert weights == published - colours - classes


@pytest.mark.parametrize("activation", ["relu", "relu6", "hard_swish"])
def test_every_activation_is_the_one_asked_for(activation: str) -> None:
    network = MobileNetV2(
        dropout=0.2,
        width=0.25,
        depth=0.25,
        activation=activation,  # type: ignore[arg-type]
    )
    layers = build(network, 32, 2).layers
    named = {its.activation.__name__ for its in layers if isinstance(its, keras.layers.Activation)}
    assert named == {keras.activations.get(activation).__name__}


@settings(max_examples=60)
@given(kind=st.sampled_from(KINDS), width=st.floats(0.25, 2), depth=st.floats(0.25, 3))
def test_filters_are_multiples_of_eight_and_hardly_fewer_than_asked_for(
    kind: type[EfficientNetLite | MobileNetV2], width: float, depth: float
) -> None:
    network = kind(dropout=0.2, width=width, depth=depth)
    rows = list(blocks(network))
    assert [name for _, name, *_ in rows] == [f"block{number}" for number in range(len(rows))]
    for stage, _, _, _, _, filters in rows:
        asked = BLOCKS[network.kind][stage][-1] * width
        assert filters % 8 == 0
        assert filters >= 0.9 * asked
        assert filters <= asked + 8


@pytest.mark.parametrize("kind", KINDS)
def test_depth_repeats_all_but_the_first_and_the_last_stage(
    kind: type[EfficientNetLite | MobileNetV2],
) -> None:
    def repeats(depth: float) -> list[int]:
        network = kind(dropout=0.2, depth=depth)
        stages = [stage for stage, *_ in blocks(network)]
        return [stages.count(stage) for stage in range(7)]

    assert repeats(2)[1:-1] == [2 * count for count in repeats(1)[1:-1]]
    assert repeats(0.25)[1:-1] == [1] * 5
    assert repeats(3)[0] == repeats(3)[-1] == 1


def test_each_stage_halves_once_however_often_it_is_repeated() -> None:
    network = EfficientNetLite(dropout=0.2, depth=2)
    assert np.prod([stride for _, _, _, stride, _, _ in blocks(network)]) == 2**4


def test_fused_normalisation_computes_what_keras_does() -> None:
    draw = np.random.default_rng(0)
    batch = draw.normal(3, 2, (8, 2, 2, 5)).astype(np.float32)
    start = [draw.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]
    ours, theirs = FusedNormalization(epsilon=1e-3), keras.layers.BatchNormalization(epsilon=1e-3)
    answers = []
    for layer in (ours, theirs):
        layer.build(batch.shape)
        layer.set_weights(start)
        answers.append([layer(batch, training=True).numpy(), layer(batch, training=False).numpy()])
    assert answers[0][0] == pytest.approx(answers[1][0], abs=1e-5)
    assert answers[0][1] == pytest.approx(answers[1][1], abs=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert not np.allclose(ours.get_weights()[2], start[2])


def test_fused_normalisation_learns_what_keras_learns() -> None:
    draw = np.random.default_rng(0)
    batch = draw.normal(3, 2, (16, 3, 3, 5)).astype(np.float32)
    wanted = draw.normal(0, 1, batch.shape).astype(np.float32)
    learnt = []
    for kind in (FusedNormalization, keras.layers.BatchNormalization):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3, 3, 5))
        x = kind(epsilon=1e-3)(keras.layers.Conv2D(5, 1)(inputs))
        model = keras.Model(inputs, x)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        model.fit(batch, wanted, epochs=5, shuffle=False, verbose=0)
        learnt.append(model.get_weights())
    for one, other in zip(*learnt, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
