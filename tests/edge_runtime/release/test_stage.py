"""What is sent becomes a release, or is refused before anything of it counts."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.release.layout import Layout, Refused, read_json_file, read_link, set_link
from edge_runtime.release.prune import find_surplus, remove_surplus
from edge_runtime.release.stage import make_environment, receive_file, received_size, stage_release
from tests.edge_runtime.release.conftest import ENVIRONMENT
from tests.edge_runtime.release.conftest import make_environment as stand_in

CONTENT = b"0123456789"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def arrives(layout: Layout, content: bytes, offset: int = 0) -> None:
    receive_file(layout, DIGEST, offset, len(CONTENT), io.BytesIO(content))


def test_what_a_broken_link_left_is_gone_on_with(layout: Layout) -> None:
    with pytest.raises(Refused, match="the link broke"):
        arrives(layout, CONTENT[:4])
    assert received_size(layout, DIGEST) == 4
    arrives(layout, CONTENT[4:], 4)
    assert layout.incoming(DIGEST).read_bytes() == CONTENT
    arrives(layout, b"ignored")


def test_what_goes_on_in_the_wrong_place_is_refused(layout: Layout) -> None:
    with pytest.raises(Refused, match="the link broke"):
        arrives(layout, CONTENT[:4])
    with pytest.raises(Refused, match="4 bytes are here, not 2"):
        arrives(layout, CONTENT[2:], 2)
    assert received_size(layout, DIGEST) == 4


def test_another_file_is_thrown_away_and_sent_anew(layout: Layout) -> None:
    with pytest.raises(Refused, match="not what was sent"):
        arrives(layout, b"x" * len(CONTENT))
    assert received_size(layout, DIGEST) == 0
    arrives(layout, CONTENT)


@pytest.mark.parametrize("name", ["../evil.whl", "-r.whl/x", "a.tar.gz", "a b.whl"])
def test_a_wheel_is_not_named_like_a_path_or_an_option(layout: Layout, name: str) -> None:
    with pytest.raises(Refused, match="no wheel's name"):
        make_environment(layout, DIGEST, {name: DIGEST})


def test_a_bundle_that_its_environment_refuses_is_no_release(layout: Layout) -> None:
    (layout.environment(ENVIRONMENT) / "bin" / "sonolite").write_text(
        "#!/bin/sh\necho 'sonolite: x: it is not signed' >&2\nexit 2\n"
    )
    arrives(layout, CONTENT)
    with pytest.raises(Refused, match="it is not signed"):
        stage_release(layout, DIGEST, ENVIRONMENT, "x86-64")
    assert list(layout.release("").iterdir()) == []


def test_pruning_leaves_what_can_be_gone_back_to(
    layout: Layout, staged: Callable[[str], str]
) -> None:
    old, good, previous, current = (staged(f"lives {n}") for n in range(4))
    for name, its in (("good", good), ("previous", previous), ("current", current)):
        set_link(layout, name, its)
    unused = hashlib.sha256(b"unused").hexdigest()
    stand_in(layout, unused)
    arrives(layout, CONTENT)
    assert any(find_surplus(layout))
    assert remove_surplus(layout) == [old]
    assert not any(find_surplus(layout))
    assert {its.name for its in layout.release("").iterdir()} == {good, previous, current}
    assert [its.name for its in layout.environment("").iterdir()] == [ENVIRONMENT]
    assert list(layout.incoming("").iterdir()) == []
    assert read_link(layout, "current") == current


def test_a_release_says_what_it_is_made_of(layout: Layout, good: str) -> None:
    record = read_json_file(Path(layout.release(good), "release.json"))
    assert set(record) == {"bundle", "sha256", "environment", "board", "made"}
    assert record["environment"] == ENVIRONMENT
