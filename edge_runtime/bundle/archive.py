"""A bundle, `NAME.sonolite`: a zip of stored members, with the hash of each in the manifest.

Opening checks the whole archive before any model byte is parsed. No member is missing, doubled,
compressed, encrypted, unlisted or named like a path. Each member has the size and the hash of the
manifest. The signature belongs to the manifest. All bytes between the members are those that
`write_bundle` writes. `Bundle.read` checks the hash again, so that a file that changes later is
noticed. `open_bundle` does not ask whether the signer is trusted; `open_trusted` does.
"""

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from devices import BadInput
from edge_runtime.bundle.manifest import (
    MEMBER_NAME,
    BundleMember,
    Manifest,
    read_manifest,
    write_manifest,
)
from edge_runtime.bundle.signing import Signature, read_signature, sign
from edge_runtime.bundle.trust import AdmittedVersions, require_trusted
from edge_runtime.files import whole_file

SUFFIX = ".sonolite"
MANIFEST = "manifest.json"
SIGNATURE = "signature"
CARD = "card.md"
GATE = "gate.json"
MAX_MEMBERS = 64
MAX_MANIFEST = 1 << 20
MAX_BUNDLE = 1 << 30
_CHUNK = 1 << 20
_DATE_1980 = 1 << 5 | 1
"""1 January 1980 in the format of MS-DOS."""


@dataclass(frozen=True)
class Bundle:
    """A bundle; every byte was checked."""

    path: Path
    manifest: Manifest
    digest: str
    """The sha256 of `manifest.json`, which holds the hash of every other member."""
    signature: Signature | None
    """A sound signature, of a key that may not be trusted; None where nobody signed."""

    @property
    def id(self) -> str:
        """Name, version and the first twelve digits of the digest; part of every result."""
        return f"{self.manifest.name} {self.manifest.version} {self.digest[:12]}"

    def read(self, member: str) -> bytes:
        """The checked bytes of a member. Raises BadInput where it is missing or has changed."""
        if member not in self.manifest.members:
            raise BadInput(f"{self.path}: no member {member}")
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(member)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise BadInput(f"{self.path}: {member} cannot be read any more") from error
        if hashlib.sha256(content).hexdigest() != self.manifest.members[member].sha256:
            raise BadInput(f"{self.path}: {member} is not what the manifest promises")
        return content


def open_bundle(path: Path) -> Bundle:
    """Checks a bundle from end to end and returns it; the text of the module lists the checks.

    Raises BadInput, which names the wrong member and the error.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: not a file")
        if path.stat().st_size > MAX_BUNDLE:
            raise BadInput(f"{path}: larger than {MAX_BUNDLE:,} bytes")
        with zipfile.ZipFile(path) as archive:
            entries = _check_entries(path, archive)
            if entries[MANIFEST].file_size > MAX_MANIFEST:
                raise BadInput(f"{path}: {MANIFEST} is larger than {MAX_MANIFEST:,} bytes")
            text = archive.read(MANIFEST)
            signature = None
            try:
                if SIGNATURE in entries:
                    signature = _signature(archive, entries[SIGNATURE], text)
                manifest = read_manifest(text)
            except BadInput as error:
                raise BadInput(f"{path}: {error}") from error
            _check_members(path, archive, entries, manifest)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path}: not a sound bundle: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a bundle"
        raise BadInput(f"{path}: {reason}") from error
    return Bundle(path, manifest, hashlib.sha256(text).hexdigest(), signature)


def open_trusted(
    path: Path, trusted: Mapping[bytes, str], versions: AdmittedVersions | None = None
) -> Bundle:
    """Opens a bundle that one of the `trusted` keys signed; see `edge_runtime.bundle.trust`.

    Raises BadInput where the bundle is not sound, is not signed, is signed by another key, or is
    older than the version in `versions`.
    """
    bundle = open_bundle(path)
    key = require_trusted(str(path), bundle.signature, trusted)
    if versions is not None:
        versions.require_not_older(key, bundle.manifest.name, bundle.manifest.version)
    return bundle


def _signature(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, manifest: bytes) -> Signature:
    if entry.file_size != 96:  # RFC 8032: 32 of key, 64 of signature
        raise BadInput("the signature has not 96 bytes")
    return read_signature(archive.read(entry), manifest)


def _check_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of the archive. Raises BadInput where one byte of the directory is not as
    `write_bundle` writes it.
    """
    if len(archive.filelist) > MAX_MEMBERS:
        raise BadInput(f"{path}: more than {MAX_MEMBERS} members")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.filelist:
        name = info.orig_filename
        if name != SIGNATURE and not MEMBER_NAME.fullmatch(name):
            raise BadInput(f"{path}: the member name {name!r} is refused")
        if name in entries:
            raise BadInput(f"{path}: the member {name} stands twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BadInput(f"{path}: the member {name} is compressed; bundles store")
        entries[name] = info
    if MANIFEST not in entries:
        raise BadInput(f"{path}: the member {MANIFEST} is missing")
    _check_layout(path, entries)
    return entries


def _check_layout(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> None:
    """Raises BadInput unless all bytes outside the contents are those that `write_bundle` writes.

    The headers and the directory are made anew from names, sizes and checksums, and compared with
    the file. So no byte before, between or after the members can hide anything.
    """
    with open(path, "rb") as file:
        for name, info in entries.items():
            header = _member_info(name, info.CRC, info.file_size).FileHeader()
            file.seek(info.header_offset)
            if file.read(len(header)) != header:
                raise BadInput(f"{path}: the member {name} does not lie where it should")
        end = file.seek(0, os.SEEK_END)
        directory, start = _directory(entries)
        file.seek(min(start, end))
        if file.read() != directory:
            raise BadInput(f"{path}: the archive's directory is not that of a bundle")


def _member_info(name: str, crc: int = 0, size: int = 0) -> zipfile.ZipInfo:
    """The zip entry of a member, with the date 1980, so that the bytes do not depend on a clock."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.CRC, info.file_size, info.compress_size = crc, size, size
    return info


def _directory(entries: Mapping[str, zipfile.ZipInfo]) -> tuple[bytes, int]:
    """The central directory of members that lie one after the other, and where it begins.

    See APPNOTE.TXT 4.3.12 and 4.3.16.
    """
    records, start = b"", 0
    for name, entry in entries.items():
        info = _member_info(name, entry.CRC, entry.file_size)
        fixed = struct.pack(
            "<4s4B4H3L5H2L",
            *(b"PK\x01\x02", info.create_version, info.create_system, info.extract_version, 0),
            *(0, zipfile.ZIP_STORED, 0, _DATE_1980, info.CRC, info.file_size, info.file_size),
            *(len(name), 0, 0, 0, 0, info.external_attr, start),
        )
        records += fixed + name.encode()
        start += len(info.FileHeader()) + info.file_size
    count = len(entries)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(records), start, 0)
    return records + tail, start


def _check_members(
    path: Path,
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    manifest: Manifest,
) -> None:
    """Compares every member with the manifest: it is there, listed, and has the size and hash."""
    if extra := set(entries) - set(manifest.members) - {MANIFEST, SIGNATURE}:
        raise BadInput(f"{path}: the member {min(extra)} is not in the manifest")
    for name, promised in manifest.members.items():
        if name not in entries:
            raise BadInput(f"{path}: the member {name} is missing")
        if entries[name].file_size != promised.size:
            raise BadInput(
                f"{path}: {name} has {entries[name].file_size:,} bytes, not {promised.size:,}"
            )
        digest = hashlib.sha256()
        with archive.open(name) as member:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != promised.sha256:
            raise BadInput(f"{path}: {name} is not what the manifest promises (sha256)")


def list_members(contents: Mapping[str, bytes]) -> dict[str, BundleMember]:
    """The entries of the members in the manifest: the size and the hash of each."""
    return {
        name: BundleMember(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(contents.items())
    }


def write_bundle(
    path: Path,
    manifest: Manifest,
    contents: Mapping[str, bytes],
    key: SigningKey | None,
) -> Bundle:
    """Writes a bundle, signed by `key`, whole or not at all; reads it again and returns it.

    The same manifest, contents and key give the same bytes. Raises BadInput where manifest and
    contents do not belong together, or `path` cannot be written.
    """
    text = write_manifest(manifest)
    head = {MANIFEST: text}
    if key is not None:
        head[SIGNATURE] = sign(key, text).to_bytes()
    with whole_file(path) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, content in [*head.items(), *sorted(contents.items())]:
                archive.writestr(_member_info(name), content)
        open_bundle(part)
    return open_bundle(path)
