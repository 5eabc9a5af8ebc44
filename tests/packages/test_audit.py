"""`make audit` tells each advisory, and never takes a silent database for a clean bill."""

from typing import Any

from packages.audit import LOCKS, ROOT, report

SOUND: dict[str, Any] = {"name": "numpy", "version": "2.4.0", "vulns": []}
WEAK: dict[str, Any] = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": []}],
}
UNKNOWN: dict[str, Any] = {"name": "h11", "skip_reason": "not found on PyPI"}


def test_an_advisory_is_told_with_its_cure() -> None:
    lines, code = report({"device": [SOUND], "host": [WEAK]})
    assert code == 1
    assert lines[0] == "host.txt: jinja2 2.10: PYSEC-2019-217; mended in 2.10.1"
    assert lines[-1] == "2 packages, 1 advisories"


def test_without_an_advisory_all_is_well() -> None:
    assert report({"device": [SOUND]}) == (["1 packages, 0 advisories"], 0)


def test_what_was_not_asked_is_not_clean() -> None:
    lines, code = report({"device": [SOUND, UNKNOWN], "host": []})
    assert code == 2
    assert lines == [
        "not audited: the advisory database told of 1 of 2 packages, and of none of host"
    ]


def test_every_lock_is_audited() -> None:
    assert {"device", "view", "host", "peers", "tflite-runtime"} <= {*LOCKS}
    for lock in LOCKS:
        assert "--hash=sha256:" in (ROOT / "requirements" / f"{lock}.txt").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "audit: .venv/host\n\t$(BIN)/python -m packages.audit $(DIST)\n" in makefile
