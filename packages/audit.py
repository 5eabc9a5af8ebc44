"""Asks the advisory database of PyPI about every version that a lock file pins, with pip-audit.

`python -m packages.audit dist` writes `dist/audit.json`, and a line for each advisory. It ends with
1 where there is an advisory, and with 2 where not every version could be asked about.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt") if path.stem != "debian")
TOOL = "pip-audit==2.10.1"


def ask(lock: Path) -> list[dict[str, Any]]:
    """What is known of each package of a lock file; empty where nothing can be asked."""
    uvx = shutil.which("uvx", path=str(Path(sys.executable).parent)) or shutil.which("uvx")
    assert uvx is not None, "uv is of the extra `dev`"
    words = [uvx, "--quiet", TOOL, "--disable-pip", "--require-hashes", "--requirement", str(lock)]
    words += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return packages


def report(packages: dict[str, list[dict[str, Any]]]) -> tuple[list[str], int]:
    """The lines for a person, and the exit code, of what is known of the packages of each lock."""
    lines, asked, known = [], 0, 0
    for lock, entries in packages.items():
        for entry in entries:
            asked += "vulns" in entry
            for advisory in entry.get("vulns", ()):
                known += 1
                cure = ", ".join(advisory["fix_versions"]) or "no version yet"
                name = f"{entry['name']} {entry['version']}"
                lines.append(f"{lock}.txt: {name}: {advisory['id']}; mended in {cure}")
    total = sum(map(len, packages.values()))
    empty = [lock for lock, entries in packages.items() if not entries]
    if empty or asked < total:
        lines.append(
            f"not audited: the advisory database told of {asked} of {total} packages"
            + (f", and of none of {', '.join(empty)}" if empty else "")
        )
        return lines, 2
    lines.append(f"{total} packages, {known} advisories")
    return lines, 1 if known else 0


def main(out: Path) -> None:
    """Asks about every lock, and writes the answers."""
    packages = {lock: ask(ROOT / "requirements" / f"{lock}.txt") for lock in LOCKS}
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.json").write_text(json.dumps(packages, indent=2) + "\n")
    lines, code = report(packages)
    print("\n".join(lines))
    sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
