"""Following nodules: one nodule, one number."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices import BadInput, Box
from devices.schema_io import read_json, write_json
from edge_runtime.nodules.motion import Place
from edge_runtime.nodules.tracking import (
    LEFT_SUPPORT,
    NO_TRACKS,
    SCORE_SECONDS,
    SUPPORT_SECONDS,
    Detection,
    Move,
    Track,
    TrackingPolicy,
    Tracks,
    add_marked_track,
    iou,
    step,
    visible,
)

POLICY = TrackingPolicy(
    start_score=0.5,
    keep_score=0.2,
    min_iou=0.2,
    confirm_seconds=0.2,
    confirm_hits=3,
    coast_seconds=0.3,
    lost_seconds=2.0,
    max_nodules=5,
)
FRAME = 0.05
"""Seconds from one frame to the next."""
STILL = Detection(Box(100, 100, 60, 40), 0.9)

SCENES = st.lists(
    st.tuples(
        st.floats(-0.2, 1.0),
        st.lists(
            st.builds(
                Detection,
                st.builds(
                    Box,
                    st.integers(0, 300),
                    st.integers(0, 200),
                    st.integers(1, 120),
                    st.integers(1, 120),
                ),
                st.floats(0, 1),
            ),
            max_size=4,
        ),
    ),
    max_size=30,
)
"""Seconds since the frame before, and the detections of a frame, for each frame."""


def at_centre(x: float, y: float, side: int = 40, score: float = 0.9) -> Detection:
    return Detection(Box(round(x - side / 2), round(y - side / 2), side, side), score)


def by(across: float, down: float = 0.0, growth: float = 1.0) -> Move:
    """All tissue moves by so many pixels a frame, and grows."""

    def move(places: Sequence[Place]) -> list[Place]:
        return [(x + across, y + down, w * growth, h * growth) for x, y, w, h in places]

    return move


def follow(
    tracks: Tracks,
    frames: list[list[Detection]],
    begin: float = 0.0,
    policy: TrackingPolicy = POLICY,
    move: Move | None = None,
) -> list[Tracks]:
    """The tracks after each frame, the first of `begin` seconds."""
    steps = []
    for index, detections in enumerate(frames):
        tracks = step(tracks, detections, begin + index * FRAME, policy, move)
        steps.append(tracks)
    return steps


def play(scene: list[tuple[float, list[Detection]]]) -> list[Tracks]:
    tracks, at, steps = NO_TRACKS, 0.0, []
    for passed, detections in scene:
        at += passed
        tracks = step(tracks, detections, at, POLICY)
        steps.append(tracks)
    return steps


def only(tracks: Tracks) -> Track:
    (track,) = tracks.tracks
    return track


def numbers(tracks: Tracks) -> list[int]:
    return [track.number for track in visible(tracks, POLICY)]


@pytest.fixture
def followed() -> Tracks:
    """One nodule at rest, seen for 0.5 s."""
    return follow(NO_TRACKS, [[STILL]] * 11)[-1]


def test_a_moving_nodule_keeps_its_number_through_misses() -> None:
    frames = [[at_centre(50 + 8 * n, 100)] if n % 5 not in (3, 4) else [] for n in range(40)]
    steps = follow(NO_TRACKS, frames, move=by(8))
    assert {only(tracks).number for tracks in steps} == {1}


def test_the_box_moves_with_the_tissue() -> None:
    steps = follow(NO_TRACKS, [[at_centre(50 + 8 * n, 100)] for n in range(40)], move=by(8))
    assert iou(only(steps[-1]).place, (50 + 8 * 39, 100, 40, 40)) > 0.99


def test_where_no_motion_is_known_the_detections_move_the_box() -> None:
    steps = follow(NO_TRACKS, [[at_centre(50 + 2 * n, 100)] for n in range(40)])
    assert iou(only(steps[-1]).place, (50 + 2 * 39, 100, 40, 40)) > 0.8


def test_a_young_track_is_the_mean_of_its_detections() -> None:
    track = only(follow(NO_TRACKS, [[at_centre(100, 100)], [at_centre(110, 100)]])[-1])
    assert track.place[0] == 105


def test_a_box_that_trembles_is_calmed() -> None:
    frames = [[at_centre(100 + 4 * (-1) ** n, 100)] for n in range(40)]
    places = [only(tracks).place[0] for tracks in follow(NO_TRACKS, frames)[20:]]
    assert max(places) - min(places) < 6


def test_a_missed_nodule_is_shown_where_the_tissue_moves_to() -> None:
    frames = [[at_centre(50 + 8 * n, 100)] for n in range(20)]
    moving = follow(NO_TRACKS, [*frames, [], []], move=by(8))[-1]
    (coasting,) = visible(moving, POLICY)
    assert coasting.place[0] == pytest.approx(50 + 8 * 21)
    assert not coasting.seen


def test_a_lost_nodule_moves_with_the_tissue_until_it_is_found_again() -> None:
    """It is not shown then, see POLICY."""
    frames = [[at_centre(50 + 4 * n, 100)] if not 20 <= n < 50 else [] for n in range(51)]
    steps = follow(NO_TRACKS, frames, move=by(4))
    assert visible(steps[49], POLICY) == ()
    assert numbers(steps[50]) == [1]


def test_a_box_grows_with_its_nodule() -> None:
    frames = [[at_centre(100, 100, side=40 + 2 * n)] for n in range(30)]
    assert only(follow(NO_TRACKS, frames)[-1]).box.w == pytest.approx(98, abs=4)
    grown = follow(NO_TRACKS, [frames[0]] + [[]] * 5, move=by(0, growth=1.1))[-1]
    assert only(grown).place[2] == pytest.approx(40 * 1.1**5)


def test_a_nodule_found_again_in_time_has_its_number(followed: Tracks) -> None:
    lost = step(followed, [], followed.at + 1.0, POLICY)
    assert numbers(lost) == []
    again = step(lost, [STILL], followed.at + 1.9, POLICY)
    assert numbers(again) == [1]


def test_a_nodule_found_too_late_has_a_new_number(followed: Tracks) -> None:
    again = step(followed, [STILL], followed.at + 2.1, POLICY)
    assert only(again).number == 2
    assert numbers(again) == []


def test_a_jump_of_many_seconds_ends_the_tracks(followed: Tracks) -> None:
    assert step(followed, [], followed.at + 3600, POLICY).tracks == ()


@pytest.mark.parametrize("passed", [0.0, -0.02, -3600.0])
def test_an_earlier_time_counts_as_the_same(followed: Tracks, passed: float) -> None:
    again = step(followed, [STILL], followed.at + passed, POLICY)
    assert again.at == followed.at
    assert only(again).box == only(followed).box


def apart(across: float) -> Move:
    """The nodule of the upper half moves to the right, that of the lower half to the left."""

    def move(places: Sequence[Place]) -> list[Place]:
        return [(x + (across if y < 105 else -across), y, w, h) for x, y, w, h in places]

    return move


@pytest.mark.parametrize("hidden", [0, 20], ids=["both seen", "one hides the other"])
def test_two_nodules_that_cross_keep_their_numbers(hidden: float) -> None:
    def frame(n: int) -> list[Detection]:
        both = [at_centre(50 + 6 * n, 100), at_centre(290 - 6 * n, 110)]
        return both if abs(240 - 12 * n) >= hidden else both[:1]

    left, right = follow(NO_TRACKS, [frame(n) for n in range(40)], move=apart(6))[-1].tracks
    assert (left.number, right.number) == (1, 2)
    assert left.place[0] > 250
    assert right.place[0] < 90


def test_a_small_nodule_may_move_by_its_own_width_unseen() -> None:
    frames = [[at_centre(50 + 12 * n, 100, side=12)] for n in range(2)]
    assert only(follow(NO_TRACKS, frames)[-1]).number == 1


def test_a_single_false_detection_is_never_shown(followed: Tracks) -> None:
    wrong = Detection(Box(300, 20, 50, 50), 0.99)
    steps = follow(followed, [[STILL, wrong]] + [[STILL]] * 60, begin=followed.at + FRAME)
    assert all(numbers(tracks) == [1] for tracks in steps)


def test_rare_false_detections_do_not_add_up() -> None:
    frames = [[STILL] if n % 10 == 0 else [] for n in range(200)]
    assert all(numbers(tracks) == [] for tracks in follow(NO_TRACKS, frames))


def test_a_track_is_shown_after_its_seconds_and_hits() -> None:
    steps = follow(NO_TRACKS, [[STILL]] * 8)
    assert [bool(numbers(tracks)) for tracks in steps] == [False] * 4 + [True] * 4


def test_a_frame_a_second_is_enough_for_a_track() -> None:
    tracks = NO_TRACKS
    for second in range(4):
        tracks = step(tracks, [STILL], second, POLICY)
    assert numbers(tracks) == [1]


def test_a_weak_detection_continues_a_track(followed: Tracks) -> None:
    weak = STILL._replace(score=0.3)
    steps = follow(followed, [[weak]] * 60, begin=followed.at + FRAME)
    assert only(steps[-1]).seen
    assert only(steps[-1]).score == pytest.approx(0.3, abs=0.01)


def test_a_weak_detection_begins_no_track() -> None:
    assert follow(NO_TRACKS, [[STILL._replace(score=0.49)]] * 20)[-1].tracks == ()


def test_a_strong_detection_comes_before_a_weak_one_that_lies_better(followed: Tracks) -> None:
    weak = STILL._replace(score=0.3)
    strong = Detection(Box(110, 105, 60, 40), 0.9)
    track = only(step(followed, [weak, strong], followed.at + FRAME, POLICY))
    assert track.place[0] > 130


def test_two_detections_of_one_nodule_are_one_track(followed: Tracks) -> None:
    twice = [STILL, Detection(Box(115, 105, 60, 40), 0.8)]
    assert only(step(followed, twice, followed.at + FRAME, POLICY)).number == 1
    assert only(step(NO_TRACKS, twice, 0.0, POLICY)).box == STILL.box


def test_a_miss_lowers_the_score(followed: Tracks) -> None:
    missed = step(followed, [], followed.at + SCORE_SECONDS, POLICY)
    assert only(missed).score == pytest.approx(0.9 * math.exp(-1))


def test_a_track_is_shown_while_its_mean_score_is_high_enough() -> None:
    policy = replace(POLICY, show_score=0.6)
    tracks, seen = NO_TRACKS, []
    for n in range(90):
        strong = not 30 <= n < 60
        at = n * FRAME
        tracks = step(tracks, [STILL._replace(score=0.9 if strong else 0.3)], at, policy)
        seen.append([track.number for track in visible(tracks, policy)])
    assert seen[29] == seen[89] == [1]
    assert seen[59] == []
    assert only(tracks).hits == 90


def test_in_a_still_the_higher_of_both_scores_counts() -> None:
    assert POLICY.still_score == POLICY.start_score
    assert replace(POLICY, show_score=0.7).still_score == 0.7


def test_the_score_does_not_depend_on_the_frame_rate() -> None:
    scores = []
    for rate in (10, 40):
        tracks = NO_TRACKS
        for n in range(2 * rate + 1):
            weak = STILL._replace(score=0.9 if n <= rate else 0.4)
            tracks = step(tracks, [weak], n / rate, POLICY)
        scores.append(only(tracks).score)
    assert scores[0] == pytest.approx(scores[1])


def test_a_marked_track_moves_with_the_tissue_alone() -> None:
    tracks = add_marked_track(NO_TRACKS, Box(40, 30, 100, 80), 0.0)
    last = only(follow(tracks, [[]] * 40, move=by(2))[-1])
    assert last.box == Box(120, 30, 100, 80)
    assert (last.score, last.seen) == (1.0, True)


def test_a_detection_corrects_a_marked_track() -> None:
    tracks = add_marked_track(NO_TRACKS, Box(40, 30, 100, 80), 0.0)
    sure = Detection(Box(60, 40, 90, 90), 0.9)
    last = only(follow(tracks, [[sure]] * 40, move=by(0))[-1])
    assert last.box == sure.box
    assert last.score == 1.0


def test_a_weak_detection_corrects_no_marked_track() -> None:
    tracks = add_marked_track(NO_TRACKS, Box(40, 30, 100, 80), 0.0)
    weak = Detection(Box(60, 40, 90, 90), 0.49)
    assert only(follow(tracks, [[weak]] * 40, move=by(0))[-1]).box == Box(40, 30, 100, 80)


def test_a_detection_of_another_size_corrects_no_marked_track() -> None:
    tracks = add_marked_track(NO_TRACKS, Box(40, 30, 100, 80), 0.0)
    larger = Detection(Box(0, 0, 220, 160), 0.9)
    first, *_ = step(tracks, [larger], FRAME, POLICY, by(0)).tracks
    assert first.box == Box(40, 30, 100, 80)


def test_a_marked_track_that_cannot_be_followed_ends() -> None:
    marked = add_marked_track(NO_TRACKS, STILL.box, 0.0)
    coasting = step(marked, [], 0.2, POLICY, lambda places: [None] * len(places))
    assert numbers(coasting) == [1]
    assert numbers(step(coasting, [], 0.4, POLICY)) == []
    assert step(coasting, [], 2.1, POLICY).tracks == ()


@pytest.fixture
def found() -> Tracks:
    """A marked nodule, which the locator has found for two seconds."""
    marked = add_marked_track(NO_TRACKS, STILL.box, 0.0)
    return follow(marked, [[STILL]] * 41, move=by(0))[-1]


def test_a_marked_nodule_that_the_locator_found_and_finds_no_more_has_left(found: Tracks) -> None:
    assert only(found).support == pytest.approx(STILL.score, abs=0.02)
    gone = follow(found, [[]] * 60, found.at + FRAME, move=by(0))
    shown = sum(numbers(each) == [1] for each in gone)
    assert shown == pytest.approx(SUPPORT_SECONDS * math.log(1 / LEFT_SUPPORT) / FRAME, abs=1)
    assert gone[-1].tracks == ()


def test_a_nodule_that_came_back_is_followed_once_a_detection_takes_it_up(found: Tracks) -> None:
    gone = follow(found, [[]] * 12, found.at + FRAME, move=by(0))[-1]
    assert numbers(gone) == []
    back = follow(gone, [[STILL]] * 10, gone.at + FRAME, move=by(0))[-1]
    assert (only(back).number, numbers(back)) == (1, [1])


def test_a_marked_nodule_that_the_locator_never_found_stays() -> None:
    weak = STILL._replace(score=0.3)
    tracks = follow(add_marked_track(NO_TRACKS, weak.box, 0.0), [[weak]] * 40, move=by(0))[-1]
    assert numbers(follow(tracks, [[]] * 60, tracks.at + FRAME, move=by(0))[-1]) == [1]


def test_a_marked_nodule_is_shown_on_the_picture_in_which_it_was_marked() -> None:
    """There is no picture before, from which it could have moved."""
    marked = step(add_marked_track(NO_TRACKS, STILL.box, 0.0), [], 0.0, POLICY, None)
    assert only(marked).seen is True
    assert numbers(follow(marked, [[]] * 20, FRAME, move=by(0))[-1]) == [1]


def test_only_a_detection_takes_up_a_marked_track_after_a_cut() -> None:
    def cut(places: Sequence[Place]) -> list[None]:
        return [None] * len(places)

    marked = add_marked_track(NO_TRACKS, STILL.box, 0.0)
    lost = step(marked, [], FRAME, POLICY, cut)
    assert only(step(lost, [], 2 * FRAME, POLICY, by(0))).seen is False
    assert numbers(follow(lost, [[]] * 10, 2 * FRAME, move=by(0))[-1]) == []
    assert only(step(lost, [STILL], 2 * FRAME, POLICY, by(0))).seen is True


def test_a_marked_track_has_a_number_of_its_own(followed: Tracks) -> None:
    tracks = add_marked_track(followed, Box(300, 100, 50, 50), followed.at)
    assert numbers(tracks) == [1, 2]
    assert tracks.next_number == 3


def test_a_nodule_in_view_takes_the_place_of_a_lost_one(followed: Tracks) -> None:
    one = replace(POLICY, max_nodules=1)
    other = Detection(Box(300, 20, 50, 50), 0.9)
    while_coasting = step(followed, [other], followed.at + 0.2, one)
    assert only(while_coasting).number == 1
    assert only(step(while_coasting, [other], followed.at + 0.4, one)).number == 3


@given(SCENES)
def test_numbers_are_unique_and_never_come_again(
    scene: list[tuple[float, list[Detection]]],
) -> None:
    first_seen: dict[int, float] = {}
    ended: set[int] = set()
    for tracks in play(scene):
        present = [track.number for track in tracks.tracks]
        assert len(set(present)) == len(present)
        assert not ended & set(present)
        for track in tracks.tracks:
            assert 1 <= track.number < tracks.next_number
            assert first_seen.setdefault(track.number, track.first_seen) == track.first_seen
        ended = set(first_seen) - set(present)


@given(SCENES)
def test_no_box_outlives_its_coast(scene: list[tuple[float, list[Detection]]]) -> None:
    for tracks in play(scene):
        for track in visible(tracks, POLICY):
            assert track.confirmed
            assert tracks.at - track.last_seen <= POLICY.coast_seconds


@given(SCENES)
def test_there_are_never_more_tracks_than_allowed(
    scene: list[tuple[float, list[Detection]]],
) -> None:
    assert all(len(tracks.tracks) <= POLICY.max_nodules for tracks in play(scene))


@given(SCENES)
@example([(0.0, [STILL]), (2.3e-311, [STILL._replace(score=0.0), STILL])])
def test_states_stay_finite_and_boxes_whole(scene: list[tuple[float, list[Detection]]]) -> None:
    for tracks in play(scene):
        for track in tracks.tracks:
            assert all(map(math.isfinite, track.place))
            assert track.box.w >= 1
            assert track.box.h >= 1
            assert 0 <= track.score <= 1


@given(SCENES)
def test_the_order_of_detections_does_not_matter(
    scene: list[tuple[float, list[Detection]]],
) -> None:
    backwards = [(passed, detections[::-1]) for passed, detections in scene]
    assert play(scene) == play(backwards)


@pytest.mark.parametrize(
    ("entry", "value"), [("keep_score", 0.6), ("lost_seconds", 0.1), ("min_iou", 0.0)]
)
def test_a_policy_that_contradicts_itself_is_refused(entry: str, value: float) -> None:
    text = write_json(POLICY)
    assert read_json(text, TrackingPolicy, "policy") == POLICY
    old = f'"{entry}": {getattr(POLICY, entry)}'.encode()
    assert old in text
    with pytest.raises(BadInput, match=entry):
        read_json(text.replace(old, f'"{entry}": {value}'.encode()), TrackingPolicy, "policy")
