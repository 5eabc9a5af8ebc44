"""A device's configuration is read strictly, and what is written is read back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.release.config import (
    TRIAL_STATES,
    Config,
    SinkConfig,
    ViewSettings,
    parse_config,
    write_config,
)
from edge_runtime.release.layout import Refused

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)

VIEWS = (
    ViewSettings(),
    ViewSettings("127.0.0.1:8765"),
    ViewSettings("[::1]:0", tls=True),
)


@given(
    source=WORDS.filter(bool),
    roi=WORDS,
    whole=st.booleans(),
    prevalence=WORDS,
    board=WORDS,
    seconds=st.floats(2, 3600),
    state=st.sampled_from(TRIAL_STATES),
    view=st.sampled_from(VIEWS)
    | st.builds(ViewSettings, certificate=WORDS.filter(bool), key=WORDS),
    sinks=st.lists(WORDS.filter(bool), max_size=3),
)
def test_what_is_written_is_read_back(
    source: str,
    roi: str,
    whole: bool,
    prevalence: str,
    board: str,
    seconds: float,
    state: str,
    view: ViewSettings,
    sinks: list[str],
) -> None:
    entries = tuple(SinkConfig(uri) for uri in sinks)
    config = Config(source, roi, whole, prevalence, board, seconds, state, view, entries)
    assert parse_config(write_config(config), "here") == config


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "source is missing"),
        ("source = 0", "source is of the wrong type"),
        ('source = "0"\ntrial_seconds = true', "trial_seconds is of the wrong type"),
        ('source = "0"\nwhole_picture = 1', "whole_picture is of the wrong type"),
        ('source = "0"\ntrial_seconds = 1', "trial_seconds lies in"),
        ('source = "0"\ntrial_seconds = nan', "trial_seconds lies in"),
        ('source = "0"\ntrial_state = "FAULT"', "trial_state is one of"),
        ('source = "0"\nsorce = "1"', "setting 2 is none of source, roi"),
        ('source = "0"\nsink = "jsonl:a"', "sink is a table [[sink]]"),
        ('source = "0"\n[sink]\nuri = "jsonl:a"', "sink is a table [[sink]]"),
        ('source = "0"\n[[sink]]\nuri = 1', "uri of [[sink]] 1 is text in quotes"),
        ('source = "0"\n[[sink]]\nuri = ""', "[[sink]] 1 needs uri"),
        ('source = "0"\n[[sink]]\nurl = "jsonl:a"', "[[sink]] 1 needs uri, and has nothing else"),
        ("source = ", "here: "),
        ('source = "0"\nview = "x"', "view is of the wrong type; a table is needed"),
        ('source = "0"\n[view]\nport = 1', "view: setting 1 is none of address, tls"),
        ('source = "0"\n[view]\naddress = 8765', "view: address is of the wrong type"),
        ('source = "0"\n[view]\naddress = "8765"', "view: address is no address"),
        ('source = "0"\n[view]\ntls = "yes"', "view: tls is of the wrong type"),
        ('source = "0"\n[view]\nkey = "k"', "view: key needs certificate"),
        ('source = "0"\n[view]\ntls = true\ncertificate = "c"', "view: tls makes"),
    ],
)
def test_what_is_wrong_is_named(text: str, word: str) -> None:
    with pytest.raises(Refused) as raised:
        parse_config(text, "here")
    assert word in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text())
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    with suppress(Refused):
        assert parse_config(text, "here").source
