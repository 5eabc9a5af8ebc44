"""The certificate and the key for a PACS: files that are read at once, and ask nobody."""

import os
import subprocess
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.sinks.pacs import parse_pacs
from edge_runtime.sinks.sink_uri import SinkUri
from tests.edge_runtime.sinks.receiver import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls")).with_name("cert.pem")


@pytest.mark.parametrize("option", ["certificate", "key"])
def test_a_pipe_in_the_place_of_a_certificate_is_one_line(
    tmp_path: Path, certificate: Path, option: str
) -> None:
    files = {"certificate": certificate, "key": certificate.with_name("key.pem")}
    files[option] = tmp_path / "pipe"
    os.mkfifo(files[option])
    options = "&".join(f"{key}={path}" for key, path in files.items())
    with pytest.raises(BadInput, match=f"the file that {option} names: not a regular file"):
        parse_pacs(SinkUri(f"dicoms://127.0.0.1:11112?{options}"))


def test_a_key_that_needs_a_password_is_refused_and_nobody_is_asked(
    tmp_path: Path, certificate: Path
) -> None:
    key, locked = str(certificate.with_name("key.pem")), str(tmp_path / "locked.pem")
    words = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(BadInput, match="the certificate and the key cannot be read"):
        parse_pacs(SinkUri(f"dicoms://127.0.0.1:11112?certificate={certificate}&key={locked}"))
    parse_pacs(SinkUri(f"dicoms://127.0.0.1:11112?certificate={certificate}&key={key}"))
