"""Messages tell every change, even one that could not be kept at first."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_runtime.sinks.messages import CHANGES, Messages
from tests.edge_runtime.results.examples import RESULT


def refuse(bodies: Iterator[bytes]) -> None:
    """A disk that is full."""
    for _ in bodies:
        raise OSError("no space left on device")


def test_a_change_that_nobody_could_take_comes_with_the_next_result() -> None:
    messages = Messages(CHANGES)
    with pytest.raises(OSError, match="no space"):
        refuse(messages.of(RESULT))
    (body,) = messages.of(replace(RESULT, sequence=1))
    assert json.loads(body)["result"]["sequence"] == 1
    assert not list(messages.of(replace(RESULT, sequence=2)))


def test_the_end_of_a_session_that_nobody_could_take_comes_before_the_next_one() -> None:
    messages = Messages(CHANGES)
    (first,) = messages.of(replace(RESULT, sequence=5))
    with pytest.raises(OSError, match="no space"):
        refuse(messages.of(RESULT))
    end, second = messages.of(RESULT)
    assert json.loads(end)["kind"] == "end"
    sessions = [json.loads(body)["session"] for body in (first, end, second)]
    assert sessions[0] == sessions[1] != sessions[2]
