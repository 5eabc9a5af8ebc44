"""Addresses of a view, and links to it."""

import socket

import pytest

from devices import BadInput
from edge_runtime.view.address import Address, link, listen, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8765", Address("127.0.0.1", 8765)),
        (":0", Address("127.0.0.1", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:9000", Address("::1", 9000)),
        ("probe.local:65535", Address("probe.local", 65535)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "8765", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[host]:80"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no address; write it like"):
        parse_address(text)


def test_a_taken_port_is_refused_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=f"127.0.0.1:{port}: .*in use; --view :0 takes a free"):
            listen(Address("127.0.0.1", port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(BadInput, match=host):
        listen(Address(host, 0))


def test_the_token_stands_where_no_server_sees_it() -> None:
    assert link(Address("127.0.0.1", 0), 81, "secret") == "http://127.0.0.1:81/#secret"
    assert link(Address("::1", 0), 81, "secret") == "http://[::1]:81/#secret"


def test_the_link_to_all_addresses_names_one() -> None:
    assert "//0.0.0.0" not in link(Address("0.0.0.0", 0), 81, "secret")
