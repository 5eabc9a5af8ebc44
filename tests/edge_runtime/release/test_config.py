"""A device's configuration is read strictly, and what is written is read back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.release.config import (
    TRIAL_STATES,
    Config,
    ExamSettings,
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
    ViewSettings("[::1]:0", tls=True, kiosk_role="operator"),
)


@given(
    source=WORDS.filter(bool),
    roi=WORDS,
    follow=st.booleans(),
    whole=st.booleans(),
    prevalence=WORDS,
    board=WORDS,
    seconds=st.floats(2, 3600),
    state=st.sampled_from(TRIAL_STATES),
    view=st.sampled_from(VIEWS)
    | st.builds(ViewSettings, certificate=WORDS.filter(bool), key=WORDS),
    sinks=st.lists(WORDS.filter(bool), max_size=3),
    exam=st.none() | st.builds(ExamSettings, st.floats(0, 36_500), st.floats(0, 10_000)),
)
def test_what_is_written_is_read_back(
    source: str,
    roi: str,
    follow: bool,
    whole: bool,
    prevalence: str,
    board: str,
    seconds: float,
    state: str,
    view: ViewSettings,
    sinks: list[str],
    exam: ExamSettings | None,
) -> None:
    entries = tuple(SinkConfig(uri) for uri in sinks)
    config = Config(
        source, roi, follow, whole, prevalence, board, seconds, state, view, entries, exam
    )
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
        ('source = "0"\n[view]\nkiosk_role = "all"', "view: kiosk_role is one of viewer, operator"),
        ('source = "0"\nexam = true', "exam is of the wrong type; a table is needed"),
        ('source = "0"\n[exam]\nfolder = "/"', "exam: setting 1 is none of keep_days"),
        ('source = "0"\n[exam]\nkeep_days = "1"', "exam: keep_days is of the wrong type"),
        ('source = "0"\n[exam]\nkeep_days = nan', "exam: keep_days lies in 0 to 36,500"),
        ('source = "0"\n[exam]\nkeep_gigabytes = -1', "exam: keep_gigabytes lies in"),
        ('source = "0"\n[view]\ntls = true\ncertificate = "c"', "view: tls makes"),
    ],
)
def test_what_is_wrong_is_named(text: str, word: str) -> None:
    with pytest.raises(Refused) as raised:
        parse_config(text, "here")
    assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_settings_of_exams_have_defaults_and_are_off_without_their_table() -> None:
    assert parse_config('source = "0"', "here").exam is None
    assert parse_config('source = "0"\n[exam]', "here").exam == ExamSettings(30.0, 4.0)


def test_a_role_that_an_earlier_release_does_not_know_is_written_only_where_it_is_chosen() -> None:
    assert "kiosk_role" not in write_config(Config("0", view=ViewSettings(":0")))


@given(st.text())
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    with suppress(Refused):
        assert parse_config(text, "here").source
