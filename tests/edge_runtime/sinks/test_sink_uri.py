"""The name of a sink holds no password, wherever that stands."""

import threading

import pytest

from devices import BadInput
from edge_runtime.sinks.open import SinkContext, open_sink
from edge_runtime.sinks.sink_uri import FILE_KINDS, SinkUri

PASSWORD = "hunter2"
MISPLACED = ["mqtts://user:hunter2@host:8883\0/topic?a=b", "user:hunter2@host", "/a:hunter2@host/b"]


@pytest.mark.parametrize("kind", FILE_KINDS)
@pytest.mark.parametrize("place", MISPLACED)
def test_an_address_in_the_place_of_a_file_is_not_told(kind: str, place: str) -> None:
    uri = SinkUri(f"{kind}:{place}")
    assert str(uri).startswith(f"{kind}:")
    assert PASSWORD not in f"{uri} {uri!r} {uri.key}"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "drift"])
@pytest.mark.parametrize("place", MISPLACED)
def test_an_address_in_the_place_of_a_file_is_refused(kind: str, place: str) -> None:
    context = SinkContext(threading.Event(), False, 30.0)
    with (
        pytest.raises(BadInput, match="an address, where a file is needed") as refusal,
        open_sink(f"{kind}:{place}", context),
    ):
        pass
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize("file", ["results.csv", "/a b/12:30.csv", "a@b.csv", "C:\\a.csv"])
def test_a_file_is_told(file: str) -> None:
    assert str(SinkUri(f"csv:{file}?keep=3")) == f"csv:{file}"
