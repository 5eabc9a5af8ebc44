"""Groups that are linked have one name, the smallest."""

from train.groups import joined_names


def test_a_chain_of_links_is_one_group_with_the_smallest_name() -> None:
    links = [("d", "c"), ("b", "a"), ("c", "b")]
    assert joined_names(links) == dict.fromkeys("abcd", "a")


def test_a_group_that_is_linked_with_itself_alone_keeps_its_name() -> None:
    assert joined_names([("a", "b"), ("c", "c")]) == {"a": "a", "b": "a", "c": "c"}
