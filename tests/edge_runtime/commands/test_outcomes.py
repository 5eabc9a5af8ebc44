"""The answers of devices are shown whole, however narrow the terminal is."""

import pytest

from edge_runtime.commands.outcomes import show_outcomes

LONG = "sink webhook:http://127.0.0.1:9/...: 0 delivered, 3 waiting, 0 given up; " * 4


@pytest.mark.parametrize("name", ["error", "why", "configuration", "view", "sinks", "damaged"])
def test_a_long_text_of_a_device_stands_whole_below_the_table(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = {"device": "pi@bed-1", "bundle": "own 2 91f196efd088", "state": "LIVE"}
    show_outcomes([row, {"device": "pi@bed-2", name: f"{LONG}\x1b[31m"}], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"pi@bed-2: {name}: {LONG}[31m"
    assert max(map(len, lines[:-1])) <= 80
    assert len(lines) < 12
