"""A planted password of a source is in no output, log or file of any command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.release.config import Config, SinkConfig, parse_config, write_config
from edge_runtime.release.layout import Layout, Refused, make_folders
from edge_runtime.release.tool import release_status
from tests.conftest import sonolite

PASSWORD = "hunter2hunter2"
LONG = "x" * 5000
SOURCES = [
    f"rtsp://me:{PASSWORD}@127.0.0.1:1/live",
    f"rtsps://me:{PASSWORD}@127.0.0.1:1/live",
    f"rtsp:/me:{PASSWORD}@127.0.0.1:1/live",
    f"me:{PASSWORD}@127.0.0.1:1/live",
    f"http://127.0.0.1:1/{PASSWORD}/live",
    f"http://127.0.0.1:1/live?pw={PASSWORD}",
    f"http://me:{PASSWORD}/{PASSWORD}@127.0.0.1:1/live",
    f"igtl://me:{PASSWORD}@127.0.0.1:1/Probe",
    f"igtl://[{PASSWORD}",
    f"v4l2:///dev/video0?size={PASSWORD}",
    f"v4l2:///dev/video0?{PASSWORD}=1",
    f"phantom:?seed={PASSWORD}",
    f"rtsp://me:{PASSWORD}@127.0.0.1:1/{LONG}",
    f"rtsp://me:{PASSWORD}{LONG}@127.0.0.1:1/live",
    f"rtsp%3A%2F%2Fme%3A{PASSWORD}%40127.0.0.1%3A1%2Flive",
    f"mqtt://me:{PASSWORD}@127.0.0.1:1/a..b/c.mp4",
]
COMMANDS: list[tuple[str, ...]] = [
    ("run", "BUNDLE", "--source", "SOURCE", "--json"),
    ("run", "BUNDLE", "--source", "SOURCE", "--save", "out.mp4"),
    ("run", "BUNDLE", "--source", "phantom:", "--roi", "SOURCE"),
    ("run", "BUNDLE", "--source", "phantom:?frames=1", "--sink", "SOURCE"),
    ("run", "BUNDLE", "--source", "phantom:?frames=1", "--save", "SOURCE.mp4"),
    ("run", "BUNDLE", "--source", "phantom:?frames=1", "--record", "SOURCE/record"),
    ("run", "BUNDLE", "SOURCE"),
    ("demo", "SOURCE", "--save", "demo.mp4"),
    ("bench", "BUNDLE", "--source", "SOURCE", "--frames", "20", "--rounds", "1", "--out", "b.json"),
    ("sector", "--source", "SOURCE", "--save"),
    ("sector", "--source", "SOURCE", "--json"),
    ("sector", "--source", "SOURCE", "--forget"),
    ("deploy", "BUNDLE", "SOURCE", "--board", "x86-64", "--source", "SOURCE"),
    ("device", "status", "SOURCE"),
    ("device", "drift", "pi@bed-1", "--reference", "SOURCE"),
    ("doctor", "SOURCE"),
    ("inspect", "SOURCE"),
    ("keys", "trust", "SOURCE"),
    ("SOURCE",),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda text: text[:30])
def test_no_command_tells_it(
    source: str, demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for words in COMMANDS:
        named = [word.replace("SOURCE", source).replace("BUNDLE", str(demo_path)) for word in words]
        done = sonolite(*named)
        assert done.code in (2, 3), (words[:3], done)
        assert PASSWORD not in done.stdout + done.stderr, words
        assert done.stderr.strip().splitlines()[-1].startswith("sonolite: ")
    for path in tmp_path.rglob("*"):
        assert PASSWORD not in path.name
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_a_variable_keeps_it_off_the_list_of_processes(demo_path: Path, tmp_path: Path) -> None:
    source = "rtsp://me:${CAMERA_PASSWORD}@127.0.0.1:1/live"
    words = [
        sys.executable,
        "-m",
        "edge_runtime",
        "demo",
        source,
        "--save",
        str(tmp_path / "a.mp4"),
    ]
    done = subprocess.run(
        words, env={**os.environ, "CAMERA_PASSWORD": PASSWORD}, capture_output=True, check=False
    )
    assert done.returncode == 3, done
    assert PASSWORD.encode() not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        f'source = ["rtsp://me:{PASSWORD}@host"]',
        f'source = "0"\nsorce = "rtsp://me:{PASSWORD}@host"',
        f'source = "0"\n"rtsp://me:{PASSWORD}@host" = 1',
        f'source = "0"\n{PASSWORD} = 1\n{PASSWORD} = 2',
        f'source = "rtsp://me:{PASSWORD}@host',
        f'source = "0"\ntrial_state = "{PASSWORD}"',
        f'source = "0"\ntrial_seconds = "{PASSWORD}"',
        f'source = "0"\n[[sink]]\nuri = "mqtts://me:{PASSWORD}@host/a"\n{PASSWORD} = 1',
        f'source = "0"\n[[sink]]\nuri = ["{PASSWORD}"]',
    ],
)
def test_a_wrong_configuration_does_not_tell_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as raised:
        parse_config(text, "config.toml")
    assert PASSWORD not in str(raised.getrepr(style="short"))
    layout = Layout(tmp_path)
    make_folders(layout)
    (tmp_path / "config.toml").write_text(text)
    assert PASSWORD not in str(release_status(layout))


def test_the_status_of_a_device_does_not_tell_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    make_folders(layout)
    config = tmp_path / "config.toml"
    sink = SinkConfig(f"webhook:https://host/{PASSWORD}")
    config.write_text(write_config(Config(SOURCES[0], sink=(sink,))))
    make_folders(layout)
    assert config.stat().st_mode & 0o777 == 0o600
    status = release_status(layout)
    assert PASSWORD not in str(status)
    assert status["config"]["trial_state"] == "LIVE"
