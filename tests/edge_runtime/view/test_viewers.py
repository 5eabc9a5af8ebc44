"""Each viewer has a slot of one message, and no more than a window of them under way."""

import asyncio

import pytest

from edge_runtime.view.admission import Role
from edge_runtime.view.viewers import (
    COMMAND_BURST,
    COMMANDS_A_SECOND,
    MAX_NOTES,
    MAX_VIEWERS,
    STALLED_SECONDS,
    WINDOW,
    Stalled,
    Viewer,
    Viewers,
)


def test_a_newer_message_takes_the_place_of_an_older_one() -> None:
    async def watch() -> list[bytes | str | None]:
        viewer = Viewer(Role.VIEWER)
        for message in (b"1", b"2", b"3"):
            viewer.offer(message)
        return [await viewer.take(60), await viewer.take(0.01)]

    assert asyncio.run(watch()) == [b"3", None]


def test_a_viewer_who_draws_nothing_gets_a_window_and_then_the_newest() -> None:
    async def watch() -> None:
        viewer = Viewer(Role.VIEWER)
        for number in range(WINDOW):
            viewer.offer(b"%d" % number)
            assert await viewer.take(60) == b"%d" % number
        for message in (b"old", b"new"):
            viewer.offer(message)
        assert not viewer.ready
        assert await viewer.take(0.01) is None
        viewer.confirm()
        assert await viewer.take(60) == b"new"

    asyncio.run(watch())


def test_a_viewer_who_draws_nothing_for_long_is_stalled() -> None:
    async def watch() -> None:
        now = 0.0
        viewer = Viewer(Role.VIEWER, lambda: now)
        for _ in range(WINDOW):
            viewer.offer(b"message")
            await viewer.take(60)
        now = STALLED_SECONDS
        assert await viewer.take(0.01) is None
        now = STALLED_SECONDS + 0.1
        with pytest.raises(Stalled):
            await viewer.take(0.01)

    asyncio.run(watch())


def test_more_confirmations_than_messages_do_not_widen_the_window() -> None:
    async def watch() -> None:
        viewer = Viewer(Role.VIEWER)
        for _ in range(9):
            viewer.confirm()
        for _ in range(WINDOW):
            viewer.offer(b"message")
            assert await viewer.take(60) == b"message"
        assert not viewer.ready

    asyncio.run(watch())


def test_the_facts_of_a_session_come_before_its_messages_and_after_none_of_the_last() -> None:
    async def watch() -> list[bytes | str | None]:
        viewer = Viewer(Role.VIEWER)
        for _ in range(WINDOW):
            viewer.offer(b"shown")
            await viewer.take(60)
        viewer.offer(b"old")
        viewer.introduce({"live": True})
        first = await viewer.take(60)
        viewer.offer(b"new")
        viewer.confirm()
        return [first, await viewer.take(60)]

    assert asyncio.run(watch()) == [
        '{"facts": {"live": true, "role": "viewer"}}',
        b"new",
    ]


def test_viewers_are_limited() -> None:
    viewers = Viewers()
    joined = [viewers.join(Role.VIEWER) for _ in range(MAX_VIEWERS)]
    assert None not in joined
    assert viewers.join(Role.VIEWER) is None
    assert joined[0] is not None
    viewers.leave(joined[0])
    assert viewers.join(Role.VIEWER) is not None


def test_notes_come_before_the_slot_and_even_to_a_viewer_who_draws_nothing() -> None:
    async def watch() -> list[bytes | str | None]:
        viewer = Viewer(Role.VIEWER)
        for _ in range(WINDOW):
            viewer.offer(b"message")
            await viewer.take(60)
        viewer.offer(b"message")
        for number in range(MAX_NOTES + 1):
            viewer.note(str(number))
        return [await viewer.take(60) for _ in range(MAX_NOTES)] + [await viewer.take(0.01)]

    assert asyncio.run(watch()) == [*map(str, range(1, MAX_NOTES + 1)), None]


def test_commands_are_counted_over_time() -> None:
    now = 0.0
    viewer = Viewer(Role.VIEWER, lambda: now)
    assert sum(viewer.may_command() for _ in range(100)) == COMMAND_BURST
    now = 2 / COMMANDS_A_SECOND
    assert [viewer.may_command() for _ in range(3)] == [True, True, False]
