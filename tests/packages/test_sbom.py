"""`make sbom` lists what the lock pins, each with its hashes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements" / "device.txt").read_text()
TOOL = Path(sys.executable).parent / "cyclonedx-py"


@pytest.mark.skipif(
    not TOOL.exists() or not shutil.which("make"), reason="no cyclonedx-bom or make"
)
def test_the_bill_is_the_lock(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--silent", "sbom", f"BIN={TOOL.parent}", f"DIST={tmp_path}", "-o", ".venv/host"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "sonolite"
    listed = {f"{its['name']}=={its['version']}" for its in bill["components"]}
    assert listed == set(re.findall(r"^[a-z0-9-]+==[0-9.a-z]+", LOCK, re.MULTILINE))
    for its in bill["components"]:
        (distribution,) = its["externalReferences"]
        assert all(hash_["content"] in LOCK for hash_ in distribution["hashes"])
        assert distribution["hashes"]
