"""The network keeps the model contract."""

import keras
import numpy as np
import pytest

from train.network import build, fold_temperature
from train.recipe import Network

SMALL = Network(filters=(4,), head="average", dropout=0.2)


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

    def log_odds() -> float:
        p = model.predict(picture, verbose=0)["probability"][0]
        return float(np.log(p[1] / p[0]))

    before = log_odds()
    fold_temperature(model, 2.5)
    assert log_odds() == pytest.approx(before / 2.5, rel=1e-4)
