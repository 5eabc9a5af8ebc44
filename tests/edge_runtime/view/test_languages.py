"""Every language of the page has every text; nothing that a result may say lacks one."""

import json
import re
from typing import Any

import pytest

from devices.capture.dicom_listen import AWAITED
from devices.health import Trouble
from edge_runtime.exams.recorder import NotKept
from edge_runtime.nodules.decide import BELOW_THRESHOLD, OUT_OF_SCOPE, TOO_CLOSE
from edge_runtime.nodules.pooling import NOT_ENOUGH, UNSETTLED
from edge_runtime.results.result import NO_NODULE, NOTICE
from edge_runtime.results.states import Event, State
from edge_runtime.screen.flaws import Flaw
from edge_runtime.screen.region import Misplaced
from edge_runtime.service.live_view import NoSession
from edge_runtime.session.account import UNMARKED
from edge_runtime.session.throttle_levels import ThrottleLevel
from edge_runtime.view.assets import PAGE_FOLDER, read_assets
from edge_runtime.view.commands import Refusal

ASSETS = read_assets()
LANGUAGES: dict[str, dict[str, Any]] = {
    path.split("/")[2].removesuffix(".json"): json.loads(content)
    for path, (_, content) in ASSETS.items()
    if path.startswith("/languages/")
}
HOT = {level.reason for level in ThrottleLevel if level.reason is not None}
REASONS = {*map(str, Event), *map(str, Flaw), TOO_CLOSE, OUT_OF_SCOPE, BELOW_THRESHOLD, UNMARKED}
REASONS |= {AWAITED, NOT_ENOUGH, UNSETTLED, NO_NODULE, *map(str, NoSession)}
REASONS |= {*map(str, Misplaced), *map(str, Refusal), *map(str, Trouble)}
REASONS |= {*map(str, NotKept)}
PAGE = (PAGE_FOLDER / "index.html").read_text()
SCRIPT = "".join(content.decode() for path, (_, content) in ASSETS.items() if path.endswith(".js"))


def test_the_list_of_languages_is_that_of_the_files() -> None:
    names = json.loads(ASSETS["/languages.json"][1])
    assert names == {code: catalogue["language"] for code, catalogue in LANGUAGES.items()}
    assert {"en", "zh"} <= set(names)


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_language_has_every_text(code: str) -> None:
    catalogue, english = LANGUAGES[code], LANGUAGES["en"]
    assert catalogue.keys() == english.keys()
    for part in ("states", "texts", "labels", "reasons"):
        assert catalogue[part].keys() == english[part].keys()
        assert all(catalogue[part].values())
    assert set(catalogue["reasons"]) == REASONS | HOT


def test_english_says_what_the_other_sinks_say() -> None:
    english = LANGUAGES["en"]
    assert english["texts"]["notice"] == NOTICE
    assert all(reason == text for reason, text in english["reasons"].items())
    assert set(State) - {State.LOST} <= set(english["states"])


def test_every_text_is_used_and_every_text_of_the_page_is_there() -> None:
    used = set(re.findall(r'data-(?:text|label)="(\w+)"', PAGE))
    used |= set(re.findall(r'\btext\("(\w+)"\)', SCRIPT))
    texts = set(LANGUAGES["en"]["texts"])
    assert used <= texts
    assert [name for name in texts - used if f'"{name}"' not in SCRIPT] == []


def test_the_page_knows_a_picture_out_of_scope_by_its_reason() -> None:
    assert f'OUT_OF_SCOPE = "{OUT_OF_SCOPE}"' in SCRIPT
