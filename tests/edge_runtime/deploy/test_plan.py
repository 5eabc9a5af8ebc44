"""What a host says of itself decides before anything is touched."""

from dataclasses import replace

import pytest

from devices import BadInput
from devices.boards import read_board
from edge_runtime.deploy.plan import DeviceFacts, choose_python, require_root

PI = DeviceFacts(
    machine="aarch64",
    system="Linux",
    libc=("glibc", "2.36"),
    pythons={"/usr/bin/python3": "3.11.2"},
    free=10**10,
    user="pi",
    is_root=False,
    systemd=True,
    groups=("video",),
    exists=False,
    writable=False,
    own=True,
    tool=None,
    unit=None,
    kiosk=None,
)
BOARD = read_board("raspberry-pi-5")


def test_the_first_python_that_will_do_is_taken() -> None:
    assert choose_python("pi", BOARD, PI) == ("/usr/bin/python3", "3.11.2")
    two = replace(PI, pythons={"/opt/old/python3": "3.9.2", **PI.pythons})
    assert choose_python("pi", BOARD, two) == ("/usr/bin/python3", "3.11.2")


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (replace(PI, machine="x86_64"), "x86_64"),
        (replace(PI, machine="armv7l"), "armv7l"),
        (replace(PI, pythons={"/usr/bin/python3": "3.9.2"}), "3.9"),
        (replace(PI, pythons={}), "no python3"),
        (replace(PI, libc=("glibc", "2.17")), "2.17"),
        (replace(PI, libc=("", "")), "glibc"),
        (replace(PI, pythons={"/home/pi/.pyenv/bin/python3": "3.11.2"}), "sees no home"),
    ],
)
def test_a_host_that_will_not_do_is_told_why(facts: DeviceFacts, word: str) -> None:
    with pytest.raises(BadInput, match=word) as raised:
        choose_python("pi@bed-1", BOARD, facts)
    assert str(raised.value).startswith("pi@bed-1: no raspberry-pi-5: ")


@pytest.mark.parametrize("root", ["/opt/sonolite", "/srv/a-b/c_d.e"])
def test_an_ordinary_root_will_do(root: str) -> None:
    require_root(root)
