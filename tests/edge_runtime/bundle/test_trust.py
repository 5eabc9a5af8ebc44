"""A bundle runs only where its signer is trusted, and no older one than ran before."""

import os
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from devices import BadInput
from edge_runtime.bundle.archive import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    open_bundle,
    open_trusted,
    write_bundle,
)
from edge_runtime.bundle.signing import (
    KEY_VARIABLE,
    fingerprint,
    new_key,
    read_signature,
    read_signing_key,
    sign,
)
from edge_runtime.bundle.trust import (
    TRUST_VARIABLE,
    VERSIONS_FILE,
    AdmittedVersions,
    read_trusted,
    require_trusted,
    trusted_folder,
)
from edge_runtime.files import state_folder
from tests.conftest import refused, sonolite
from tests.edge_runtime.bundle.test_archive import pack


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who has no key yet and has run nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def contents(demo_bundle: Bundle) -> dict[str, bytes]:
    return {name: demo_bundle.read(name) for name in demo_bundle.manifest.members}


def signed(
    path: Path, bundle: Bundle, contents: dict[str, bytes], key: Path | None, version: int = 1
) -> Path:
    """The shipped model in a bundle of one's own."""
    signing = None if key is None else read_signing_key(key)
    write_bundle(path, replace(bundle.manifest, version=version), contents, signing)
    return path


def test_what_one_signs_oneself_runs(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    assert sonolite("keys", "new").code == 0
    path = signed(person / "a.sonolite", demo_bundle, contents, None)
    key = person / "config" / "sonolite" / "signing.pem"
    path = signed(person / "b.sonolite", demo_bundle, contents, key)
    done = sonolite("run", path, "--source", "phantom:?frames=2")
    assert done.code == 0, done
    shown = sonolite("inspect", path)
    assert "own, which is trusted here" in shown.stdout


def test_what_another_signed_is_refused_with_both_keys_named(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    assert sonolite("keys", "new").code == 0
    theirs = new_key(person / "their.pem", person / "their.pub")
    path = signed(person / "a.sonolite", demo_bundle, contents, person / "their.pem")
    (own,) = read_trusted(person / "config" / "sonolite" / "trusted").keys
    refused(
        sonolite("run", path, "--source", "phantom:"),
        f"signed by the key {theirs}, which is not trusted here",
        f"own {fingerprint(own)}",
    )
    assert f"{theirs}, which is not trusted here" in sonolite("inspect", path).stdout


def test_what_nobody_signed_is_refused(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    path = signed(person / "a.sonolite", demo_bundle, contents, None)
    for words in (("run", path, "--source", "phantom:"), ("validate", path, "--data", person)):
        refused(sonolite(*words), "it is not signed")
    assert "not signed: no device runs it" in sonolite("inspect", path).stdout


def test_a_signature_of_another_manifest_is_refused(
    tmp_path: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "key.pub")
    first = signed(tmp_path / "a.sonolite", demo_bundle, contents, tmp_path / "key.pem", 1)
    second = signed(tmp_path / "b.sonolite", demo_bundle, contents, tmp_path / "key.pem", 2)
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        members = {name: one.read(name) for name in one.namelist()}
        members[SIGNATURE] = other.read(SIGNATURE)
    with pytest.raises(BadInput, match="the signature is not of this manifest"):
        open_bundle(pack(tmp_path / "c.sonolite", members))


@pytest.mark.parametrize("length", [0, 64, 95, 97])
def test_a_signature_of_another_length_is_refused(
    tmp_path: Path, demo_bundle: Bundle, length: int
) -> None:
    with zipfile.ZipFile(demo_bundle.path) as whole:
        manifest = whole.read(MANIFEST)
    path = pack(tmp_path / "a.sonolite", {MANIFEST: manifest, SIGNATURE: bytes(length)})
    with pytest.raises(BadInput, match="the signature has not 96 bytes"):
        open_bundle(path)


@given(content=st.binary(max_size=200) | st.binary(min_size=96, max_size=96), text=st.binary())
def test_no_bytes_but_a_signers_are_trusted(content: bytes, text: bytes) -> None:
    """Of a few degenerate keys anything is a signature, but nobody trusts those."""
    key = SigningKey(bytes(32))
    trusted = {sign(key, b"").key: "own"}
    with pytest.raises(BadInput):
        require_trusted("a", read_signature(content, text), trusted)


@given(text=st.binary(), place=st.integers(0, 95), bit=st.integers(0, 7))
def test_a_signature_with_one_bit_changed_is_none(text: bytes, place: int, bit: int) -> None:
    content = bytearray(sign(SigningKey(bytes(32)), text).to_bytes())
    assert read_signature(bytes(content), text).to_bytes() == bytes(content)
    content[place] ^= 1 << bit
    with pytest.raises(BadInput):
        read_signature(bytes(content), text)


def test_the_shipped_bundle_is_signed_by_the_shipped_key(demo_bundle: Bundle, person: Path) -> None:
    assert "which is not trusted here" in sonolite("inspect", demo_bundle.path).stdout
    with pytest.raises(BadInput, match="not trusted"):
        open_trusted(demo_bundle.path, {})
    # Only the demonstration trusts it: whose key it is, nobody at the bedside knows.
    refused(sonolite("run", demo_bundle.path, "--source", "phantom:"), "not trusted")


def test_an_older_version_is_refused_unless_it_is_asked_for(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    assert sonolite("keys", "new").code == 0
    key = person / "config" / "sonolite" / "signing.pem"
    old, new = (
        signed(person / f"{number}.sonolite", demo_bundle, contents, key, number)
        for number in (1, 2)
    )
    words = ("--source", "phantom:?frames=2")
    for path in (old, new, new):
        assert sonolite("run", path, *words).code == 0
    refused(sonolite("run", old, *words), "version 1 is older than 2, which ran here before")
    assert sonolite("run", old, *words, "--allow-older").code == 0
    refused(sonolite("run", old, *words), "older than 2")


def test_another_signers_versions_are_counted_apart(tmp_path: Path) -> None:
    versions = AdmittedVersions(tmp_path / VERSIONS_FILE)
    versions.admit(bytes(32), "a", 9)
    versions.require_not_older(bytes(31) + b"1", "a", 1)
    versions.require_not_older(bytes(32), "b", 1)
    with pytest.raises(BadInput, match="older than 9"):
        versions.require_not_older(bytes(32), "a", 8)


def test_whatever_runs_a_model_refuses_an_older_one(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    assert sonolite("keys", "new").code == 0
    key = person / "config" / "sonolite" / "signing.pem"
    path = signed(person / "1.sonolite", demo_bundle, contents, key, 1)
    (own,) = read_trusted(person / "config" / "sonolite" / "trusted").keys
    AdmittedVersions(state_folder() / VERSIONS_FILE).admit(own, demo_bundle.manifest.name, 2)
    for words in (("doctor", path), ("validate", path, "--data", person)):
        refused(sonolite(*words), "version 1 is older than 2")


def test_a_damaged_count_of_versions_lets_nothing_pass(tmp_path: Path) -> None:
    path = tmp_path / VERSIONS_FILE
    for text in ("", "{", "[]", '{"a": "2"}', '{"a": 1.5}'):
        path.write_text(text)
        with pytest.raises(BadInput, match="damaged"):
            AdmittedVersions(path).require_not_older(bytes(32), "a", 1)


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / VERSIONS_FILE
    os.mkfifo(path.with_suffix(".lock"))
    AdmittedVersions(path).admit(bytes(32), "a", 2)
    with pytest.raises(BadInput, match="older than 2"):
        AdmittedVersions(path).require_not_older(bytes(32), "a", 1)


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    mark = new_key(tmp_path / "a" / "key.pem", tmp_path / "b" / "key.pem")
    assert (tmp_path / "a" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert [fingerprint(key) for key in read_trusted(tmp_path / "b").keys] == [mark]


def test_a_new_key_is_never_put_into_a_file_that_lies_there(tmp_path: Path) -> None:
    part = tmp_path / f".key.{os.getpid()}.part.pem"
    part.touch(mode=0o666)
    with pytest.raises(BadInput):
        new_key(tmp_path / "key.pem", tmp_path / "public.pem")
    assert not (tmp_path / "key.pem").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".x"])
def test_a_keys_name_is_no_path(person: Path, name: str) -> None:
    refused(sonolite("keys", "new", "--name", name), "make a key's name")


def test_in_a_folder_that_anybody_can_write_no_key_is_trusted(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "keys" / "own.pem")
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(BadInput, match="keys: anybody can write it"):
        read_trusted(tmp_path / "keys")


@pytest.mark.parametrize("place", ["keys", "keys/own.pem"])
def test_what_the_group_can_write_is_not_trusted(place: str, tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "keys" / "own.pem")
    (tmp_path / place).chmod(0o775)
    words = f"{place}: its group can write it; chmod go-w "
    if place == "keys":
        with pytest.raises(BadInput, match=words):
            read_trusted(tmp_path / "keys")
    else:
        trusted = read_trusted(tmp_path / "keys")
        assert not trusted.keys
        assert words in trusted.refused[0]


def test_a_folder_that_anybody_can_replace_is_not_trusted(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "open" / "keys" / "own.pem")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BadInput, match=r"keys: anybody can replace it; chmod o-w .*/open$"):
        read_trusted(tmp_path / "open" / "keys")
    (tmp_path / "open").chmod(0o1777)  # only the owner replaces what lies there
    assert read_trusted(tmp_path / "open" / "keys").keys


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_what_belongs_to_another_user_is_not_trusted(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "keys" / "own.pem")
    os.chown(tmp_path / "keys" / "own.pem", 12345, 12345)
    trusted = read_trusted(tmp_path / "keys")
    assert not trusted.keys
    assert "own.pem: it belongs to another user; sudo chown 0" in trusted.refused[0]
    os.chown(tmp_path / "keys", 12345, 12345)
    with pytest.raises(BadInput, match="keys: it belongs to another user; sudo chown 0"):
        read_trusted(tmp_path / "keys")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_folder_that_a_user_cannot_list_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "keys" / "own.pem")
    tmp_path.chmod(0o700)
    os.seteuid(12345)
    try:
        with pytest.raises(BadInput, match="keys: Permission denied"):
            read_trusted(tmp_path / "keys")
    finally:
        os.seteuid(0)


def test_a_new_key_is_trusted_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        new_key(tmp_path / "key.pem", tmp_path / "a" / "keys" / "own.pem")
    finally:
        os.umask(before)
    assert read_trusted(tmp_path / "a" / "keys").keys


def test_versions_that_are_gone_are_told(
    person: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    assert sonolite("keys", "new").code == 0
    key = person / "config" / "sonolite" / "signing.pem"
    path = signed(person / "a.sonolite", demo_bundle, contents, key)
    words = ("run", path, "--source", "phantom:?frames=2")
    assert "note: " not in sonolite(*words).stderr.replace("note: no nodule", "")
    (person / "state" / "sonolite" / VERSIONS_FILE).unlink()
    assert (
        f"{VERSIONS_FILE}: gone, so that an older bundle is not noticed" in sonolite(*words).stderr
    )
    assert f"{VERSIONS_FILE}: gone" not in sonolite(*words).stderr


def test_a_state_that_cannot_be_written_keeps_nobody_from_running(
    person: Path,
    demo_bundle: Bundle,
    contents: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sonolite("keys", "new").code == 0
    key = person / "config" / "sonolite" / "signing.pem"
    path = signed(person / "a.sonolite", demo_bundle, contents, key)
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nobody")
    done = sonolite("run", path, "--source", "phantom:?frames=2")
    assert done.code == 0, done
    assert "note: this version is not kept, so that an older one is not noticed" in done.stderr


def test_a_trusted_key_that_anybody_could_have_put_there_is_none(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "keys" / "own.pem")
    (tmp_path / "keys" / "own.pem").chmod(0o666)
    trusted = read_trusted(tmp_path / "keys")
    assert not trusted.keys
    assert "own.pem: anybody can write it" in trusted.refused[0]


def test_openssl_reads_the_keys(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "public.pem")
    words: list[str | Path] = ["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout"]
    done = subprocess.run(words, check=True, capture_output=True)
    assert done.stdout == (tmp_path / "public.pem").read_bytes()


def test_a_key_that_exists_is_not_overwritten(person: Path) -> None:
    assert sonolite("keys", "new").code == 0
    refused(sonolite("keys", "new"), "exists already")
    assert len(sonolite("keys", "list").stdout.splitlines()) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "public.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        read_signing_key(tmp_path / "key.pem")


def test_a_key_does_not_belong_in_a_run(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", tmp_path / "public.pem")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BadInput, match="does not belong in a run"):
        read_signing_key(tmp_path / "key.pem")
    with pytest.raises(BadInput, match="does not belong in a run"):
        new_key(tmp_path / "deep" / "other.pem", tmp_path / "other.pub")


def test_the_key_may_come_from_the_environment(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(person / "key.pem", person / "public.pem")
    monkeypatch.setenv(KEY_VARIABLE, (person / "key.pem").read_text())
    expected = read_signing_key(person / "key.pem").encode()
    assert read_signing_key(None).encode() == expected
    monkeypatch.setenv(KEY_VARIABLE, "no key")
    with pytest.raises(BadInput, match=f"^{KEY_VARIABLE}: not a signing key"):
        read_signing_key(None)


def test_without_a_key_nothing_is_converted(person: Path, run_folder: Path) -> None:
    words = ("convert", run_folder, "--out", person / "a.sonolite")
    refused(sonolite(*words), "there is no signing key", "sonolite keys new")


def test_the_folder_of_trusted_keys_may_be_named(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = new_key(person / "key.pem", person / "keys" / "clinic.pem")
    monkeypatch.setenv(TRUST_VARIABLE, str(person / "keys"))
    assert sonolite("keys", "list").stdout == f"{mark}  {person / 'keys' / 'clinic.pem'}\n"


@pytest.mark.parametrize("kind", ["text", "private", "rsa", "certificate", "short"])
def test_what_is_no_public_key_is_named(tmp_path: Path, kind: str) -> None:
    new_key(tmp_path / "private", tmp_path / "public")
    path = tmp_path / "odd.pem"
    if kind == "rsa":
        words: list[str | Path] = [
            "openssl",
            "genpkey",
            "-algorithm",
            "RSA",
            "-out",
            tmp_path / "rsa",
        ]
        subprocess.run(words, check=True, capture_output=True)
        words = ["openssl", "pkey", "-in", tmp_path / "rsa", "-pubout", "-out", path]
        subprocess.run(words, check=True, capture_output=True)
    else:
        public = (tmp_path / "public").read_bytes()
        certificate = public.replace(b"PUBLIC KEY", b"CERTIFICATE")
        contents = {
            "text": b"x",
            "private": (tmp_path / "private").read_bytes(),
            "certificate": certificate + public,
            "short": public.replace(b"MCow", b""),
        }
        path.write_bytes(contents[kind])
    trusted = read_trusted(tmp_path)
    assert not trusted.keys
    assert trusted.refused[0].startswith(f"{path}: not a")


@pytest.fixture
def broken(person: Path) -> Path:
    """A file that is no key, beside a good one."""
    assert sonolite("keys", "new").code == 0
    path = trusted_folder() / "broken.pem"
    path.write_text("-----BEGIN PUBLIC KEY-----")
    return path


def test_the_list_of_keys_goes_on_past_a_broken_one(broken: Path) -> None:
    mark = new_key(broken.parent / "their.key", broken.parent / "their.pem")
    done = sonolite("keys", "list")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        str(broken.with_name(name)) for name in ("own.pem", "their.pem")
    ]
    assert mark in done.stdout
    refused(done, f"{broken}: not a public key in PEM")


def test_a_pipe_among_the_keys_is_not_waited_for(broken: Path) -> None:
    broken.unlink()
    os.mkfifo(broken)
    refused(sonolite("keys", "list"), f"{broken}: not a file")


def test_a_file_in_the_place_of_the_folder_of_keys_is_refused(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (person / "keys").touch()
    monkeypatch.setenv(TRUST_VARIABLE, str(person / "keys"))
    refused(sonolite("keys", "list"), f"{person / 'keys'}: Not a directory")


def test_a_broken_key_bars_no_good_one(
    person: Path, broken: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    key = person / "config" / "sonolite" / "signing.pem"
    path = signed(person / "a.sonolite", demo_bundle, contents, key)
    done = sonolite("run", path, "--source", "phantom:?frames=2")
    assert done.code == 0, done
    assert f"note: {broken}: not a public key in PEM; it is not trusted\n" in done.stderr
    assert "own, which is trusted here" in sonolite("inspect", path).stdout


def test_what_a_key_signed_that_anybody_can_write_is_refused(
    person: Path, broken: Path, demo_bundle: Bundle, contents: dict[str, bytes]
) -> None:
    path = signed(
        person / "a.sonolite", demo_bundle, contents, person / "config" / "sonolite" / "signing.pem"
    )
    (trusted_folder() / "own.pem").chmod(0o666)
    for words in (("run", path, "--source", "phantom:"), ("doctor", path)):
        refused(sonolite(*words), "which is not trusted here (trusted: none)")


def test_versions_are_kept_in_the_persons_state(person: Path) -> None:
    assert state_folder() == person / "state" / "sonolite"
