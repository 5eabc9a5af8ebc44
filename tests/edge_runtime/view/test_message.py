"""The message of a result: its JSON, and the picture that it belongs to."""

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simplejpeg

from devices import Pixels
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.view.message import pack
from tests.edge_runtime.results.examples import RESULT


def unpack(message: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack_from(">I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def test_result_and_picture_come_back(screen: Pixels) -> None:
    header, jpeg = unpack(pack(RESULT, screen, missed=7))
    assert header["missed"] == 7
    assert header["result"]["nodules"][0]["box"] == [100, 100, 50, 40]
    assert header["result"]["notice"] == "research use only, not for diagnosis"
    decoded = simplejpeg.decode_jpeg(jpeg, "BGR").astype(float)
    assert decoded.shape == screen.shape
    assert np.abs(decoded - screen).mean() < 6


def test_evidence_is_sent_against_the_threshold(screen: Pixels) -> None:
    """At a threshold of 0.7 the label changes at log-odds of 0.85; ten more are the full tint."""
    header, _ = unpack(pack(RESULT, screen, missed=0))
    assert header["evidence"] == [{"window": [85, 80, 80, 80], "tint": [[100, 42], [-8, -100]]}]


def test_a_grey_picture_and_one_with_gaps_in_memory_come_back(screen: Pixels) -> None:
    grey = screen[::2, ::2, 0]
    _, jpeg = unpack(pack(RESULT, grey, missed=0))
    assert simplejpeg.decode_jpeg(jpeg, "GRAY").shape == (*grey.shape, 1)


@pytest.mark.parametrize(
    "result",
    [
        replace(RESULT, state=State.STALE),
        replace(RESULT, state=State.LOST),
        replace(RESULT, frame=None),
    ],
)
def test_an_old_picture_is_not_sent(result: Result, screen: Pixels) -> None:
    header, jpeg = unpack(pack(result, screen, missed=0))
    assert header["result"]["state"] == result.state
    assert jpeg == b""


def test_a_picture_of_another_kind_is_not_sent() -> None:
    assert unpack(pack(RESULT, np.zeros((9, 9, 4), np.uint8), missed=0))[1] == b""


def test_the_name_of_the_file_is_not_sent(screen: Pixels) -> None:
    assert b"DOE" not in pack(replace(RESULT, file="DOE^JANE.mp4"), screen, missed=0)
