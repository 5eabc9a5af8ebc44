"""Arrays that are used again, but never while somebody holds them."""

from hypothesis import given
from hypothesis import strategies as st

from devices.buffers import MAX_BUFFERS, Buffers


def test_an_array_that_nobody_holds_is_given_again() -> None:
    buffers = Buffers()
    addresses = {buffers.take((3, 4)).ctypes.data for _ in range(10)}
    assert len(addresses) == 1


def test_a_view_holds_its_array() -> None:
    buffers = Buffers()
    row = buffers.take((3, 4))[1]
    row[:] = 7
    buffers.take((3, 4))[:] = 0
    assert row.tolist() == [7] * 4


def test_another_shape_forgets_the_first() -> None:
    buffers = Buffers()
    buffers.take((3, 4))
    assert buffers.take((5,)).shape == (5,)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=4 * MAX_BUFFERS))
def test_what_is_held_is_never_painted_over(steps: list[tuple[bool, int]]) -> None:
    buffers = Buffers()
    held = []
    for number, (keep, which) in enumerate(steps):
        array = buffers.take((2,))
        array[:] = number
        if keep:
            held.append((array, number))
        elif held:
            held.pop(which % len(held))
        del array
        assert all(its.tolist() == [number] * 2 for its, number in held if number < 256)
