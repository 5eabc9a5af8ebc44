"""A PACS: Orthanc, on loopback, in a folder of its own."""

import json
import subprocess
import time
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import pydicom

from tests.conftest import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CALLED, CALLING = "ORTHANC", "SONOLITE"


class Orthanc:
    """It may be started and stopped more than once; what it stored stays."""

    def __init__(self, folder: Path, tls: Path | None = None) -> None:
        """`tls` is a folder with key.pem and cert.pem."""
        self._folder = folder
        self.port, self.http, self.listen = free_port(), free_port(), free_port()
        folder.mkdir(exist_ok=True)
        self._settings: dict[str, Any] = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.port,
            "DicomAet": CALLED,
            "DicomCheckCalledAet": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"device": [CALLING, "127.0.0.1", self.listen]},
            "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        if tls is not None:
            self._settings |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(tls / "cert.pem"),
                "DicomTlsPrivateKey": str(tls / "key.pem"),
                "DicomTlsTrustedCertificates": str(tls / "cert.pem"),
            }

    @property
    def uri(self) -> str:
        return f"dicom://127.0.0.1:{self.port}?called={CALLED}&calling={CALLING}"

    @property
    def web(self) -> str:
        return f"dicomweb:http://127.0.0.1:{self.http}/dicom-web"

    def get(self, path: str) -> bytes:
        """What the server answers to a GET."""
        with urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def files(self) -> list[bytes]:
        """Every object that it gives back, as a file."""
        return [self.get(f"/instances/{each}/file") for each in json.loads(self.get("/instances"))]

    def objects(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(BytesIO(each)) for each in self.files()]

    def identifiers(self) -> list[str]:
        """The identifiers of the objects, sorted."""
        return sorted(str(each.SOPInstanceUID) for each in self.objects())

    def empty(self) -> None:
        """Deletes every object."""
        for study in json.loads(self.get("/studies")):
            url = f"http://127.0.0.1:{self.http}/studies/{study}"
            urlopen(Request(url, method="DELETE"), timeout=60).close()

    def __enter__(self) -> Self:
        path = self._folder / "orthanc.json"
        path.write_text(json.dumps(self._settings))
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(["Orthanc", str(path)], stdout=quiet, stderr=quiet)
        until = time.monotonic() + 120
        while True:
            try:
                self.get("/system")
                return self
            except OSError:
                assert time.monotonic() < until
                assert self._process.poll() is None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
