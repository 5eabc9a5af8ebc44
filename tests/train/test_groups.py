"""Groups that were joined have one name, the smallest."""

from train.groups import JoinedGroups


def test_a_chain_of_joins_is_one_group_with_the_smallest_name() -> None:
    groups = JoinedGroups()
    for one, other in (("d", "c"), ("b", "a"), ("c", "b")):
        groups.join(one, other)
    assert [groups.name(group) for group in "abcd"] == ["a"] * 4


def test_a_group_that_was_never_joined_keeps_its_name() -> None:
    groups = JoinedGroups()
    groups.join("a", "b")
    assert groups.name("c") == "c"
