"""Who is admitted to a view."""

import socket

import pytest

from edge_runtime.view.admission import (
    ATTEMPT_SECONDS,
    MAX_ATTEMPTS,
    MAX_CLIENTS,
    Admission,
    Role,
    TooManyAttempts,
)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def admission(clock: Time) -> Admission:
    return Admission("127.0.0.1", 8765, clock)


def test_each_token_gives_the_cookie_of_its_role(admission: Admission) -> None:
    for role, token in admission.tokens.items():
        cookie = admission.exchange(token, "client")
        assert cookie != token
        assert admission.role_of(cookie) is role


@pytest.mark.parametrize("cookie", [None, "", "wrong", "\u00e9"])
def test_another_cookie_does_not_admit(admission: Admission, cookie: str | None) -> None:
    assert admission.role_of(cookie) is None


def test_no_two_views_have_the_same_secrets() -> None:
    views = [Admission("127.0.0.1", 8765) for _ in range(2)]
    secrets = [[*view.tokens.values(), *view._cookies.values()] for view in views]
    assert len({*secrets[0], *secrets[1]}) == 8


def test_a_kept_token_keeps_its_cookie_and_does_not_tell_it() -> None:
    kept, changed = "kept" * 8, "else" * 8
    one, other, third = (
        Admission("127.0.0.1", 8765, token=token) for token in (kept, kept, changed)
    )
    assert one.exchange(kept, "") == other.exchange(kept, "") != third.exchange(changed, "")
    assert kept not in str(one.exchange(kept, ""))
    assert one.tokens[Role.OPERATOR] != other.tokens[Role.OPERATOR]


def test_the_kept_token_of_an_operator_keeps_its_cookie_too() -> None:
    kept = "kept" * 8
    one, other = (Admission("127.0.0.1", 8765, operator_token=kept) for _ in range(2))
    cookie = one.exchange(kept, "")
    assert other.role_of(cookie) is Role.OPERATOR
    assert one.tokens[Role.VIEWER] != other.tokens[Role.VIEWER]


def test_an_encrypted_view_has_a_cookie_for_encrypted_connections_and_its_own_origin() -> None:
    admission = Admission("127.0.0.1", 8765, encrypted=True)
    assert admission.cookie_name == "__Host-sonolite_view_8765"
    assert admission.is_own_origin("https://localhost:8765", "localhost:8765")
    assert not admission.is_own_origin("http://localhost:8765", "localhost:8765")


def test_too_many_wrong_tokens_keep_out_even_the_right_one_for_a_time(
    admission: Admission, clock: Time
) -> None:
    for _ in range(MAX_ATTEMPTS):
        assert admission.exchange("wrong", "client") is None
    with pytest.raises(TooManyAttempts):
        admission.exchange(admission.tokens[Role.VIEWER], "client")
    assert admission.exchange(admission.tokens[Role.VIEWER], "another client") is not None
    clock.now = ATTEMPT_SECONDS
    assert admission.exchange(admission.tokens[Role.VIEWER], "client") is not None


def test_the_memory_of_clients_is_bounded(admission: Admission) -> None:
    for number in range(MAX_CLIENTS + 10):
        admission.exchange("wrong", str(number))
    assert len(admission._wrong) == MAX_CLIENTS


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8765", "localhost:9", "LOCALHOST", "[::1]:8765", "192.0.2.7", socket.gethostname()],
)
def test_a_host_of_this_machine_is_known(admission: Admission, host: str) -> None:
    assert admission.is_own_host(host)
    assert admission.is_own_origin(f"http://{host}", host)


@pytest.mark.parametrize("host", ["", "attacker.example", "127.0.0.1.attacker.example:8765", ":1"])
def test_another_host_is_refused(admission: Admission, host: str) -> None:
    assert not admission.is_own_host(host)
    assert not admission.is_own_origin(f"http://{host}", host)


@pytest.mark.parametrize("origin", [None, "null", "http://localhost:1", "http://attacker.example"])
def test_another_origin_is_refused(admission: Admission, origin: str | None) -> None:
    assert not admission.is_own_origin(origin, "localhost:8765")
