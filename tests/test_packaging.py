"""What is shipped: a wheel adds one name to site-packages, an sdist can build the extension."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("kernels", "models", "train", "bench")


def build(command: str, folder: Path) -> Path:
    """Run one of setuptools' build hooks on the checkout, as pip does, in this environment.

    No compiler is offered: what goes into the archives is the question here, not the native build.
    """
    script = f"import setuptools.build_meta as b; print('built', b.{command}({str(folder)!r}))"
    environment = {"PATH": "/nonexistent", "CXX": "no-such-compiler", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if command == "build_wheel":
        assert "no C++ compiler was found" in done.stderr
    built = re.search(r"^built (.+)$", done.stdout, re.MULTILINE)
    assert built is not None, done.stdout[-2000:]
    return folder / built[1]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with zipfile.ZipFile(build("build_wheel", tmp_path_factory.mktemp("wheel"))) as wheel:
        return wheel.namelist()


@pytest.mark.slow
def test_a_wheel_adds_one_name_to_site_packages(wheel_names: list[str]) -> None:
    names = {name.split("/")[0] for name in wheel_names}
    assert {name for name in names if not name.endswith(".dist-info")} == {"opensora_fast"}


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_data_file_of_the_rooms(wheel_names: list[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "opensora_fast", *ROOMS], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    shipped = re.compile(r"\.(py|pyi|safetensors|json|jsonl|txt|md)$|/py\.typed$")
    for path in filter(shipped.search, tracked.stdout.splitlines()):
        if not (ROOT / path).exists():  # deleted, not yet committed
            continue
        installed = path if path.startswith("opensora_fast/") else f"opensora_fast/{path}"
        assert installed in wheel_names, f"{path} is not in the wheel"


@pytest.mark.slow
def test_a_wheel_declares_the_command(wheel_names: list[str], tmp_path: Path) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel_names)
    assert "opensora_fast/cli/__init__.py" in wheel_names


@pytest.mark.slow
def test_an_sdist_can_build_the_extension(tmp_path: Path) -> None:
    with tarfile.open(build("build_sdist", tmp_path)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.is_file()]
    assert sources
    for path in [*sources, ROOT / "CMakeLists.txt", ROOT / "setup.py", ROOT / "LICENSE"]:
        assert path.relative_to(ROOT).as_posix() in names


def test_versions_agree() -> None:
    from importlib import metadata

    import opensora_fast

    try:
        installed = metadata.version("opensora-fast")
    except metadata.PackageNotFoundError:
        pytest.skip("run from a checkout, not installed")
    assert installed == opensora_fast.__version__


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_refuses_to_be_imported_under_its_bare_name(room: str) -> None:
    # From the repository's root `import models` would load a second copy of every class.
    done = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"opensora_fast.{room}" in done.stderr
