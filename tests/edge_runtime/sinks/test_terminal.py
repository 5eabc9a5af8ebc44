"""What a person sees on a terminal."""

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from edge_runtime.sinks.terminal import Terminal
from tests.edge_runtime.sinks.test_overlay import RESULT


def test_words_of_a_device_are_no_markup() -> None:
    """A server on the network chooses its devices' names."""
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=120)
    with Terminal(console) as terminal:
        result = replace(RESULT, nodules=(), reason="igtl://[fe80::1]: [/x] sends no picture")
        terminal.write(result, np.zeros((48, 64), np.uint8))
    assert "igtl://[fe80::1]: [/x] sends no picture" in seen.getvalue()
