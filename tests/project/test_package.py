"""The wheel: what a user installs."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PROJECT = Path(__file__).resolve().parents[2]
VERSION = "0.1.0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    with zipfile.ZipFile(folder / f"wellos_jobs-{VERSION}-py3-none-any.whl") as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"wellos_jobs-{VERSION}.dist-info/METADATA").decode())


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {
        name
        for name in wheel.namelist()
        if not name.startswith(f"wellos_jobs-{VERSION}.dist-info/")
    }
    files = (
        path
        for path in (PROJECT / "wellos_jobs").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    assert packed == {path.relative_to(PROJECT).as_posix() for path in files} | {
        "pytest_wellos_jobs.py"
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "wellos_jobs/py.typed",
        "wellos_jobs/broker/scripts/claim.lua",
        "wellos_jobs/migrations/0001_*.py",
        "wellos_jobs/templates/*.html",
        "wellos_jobs/contrib/templates/*.txt",
        "wellos_jobs/static/*.css",
        "wellos_jobs/management/commands/rqworker.py",
    ],
)
def test_files_that_are_no_modules_are_in_the_wheel(wheel: zipfile.ZipFile, pattern: str) -> None:
    assert fnmatch.filter(wheel.namelist(), pattern)


def test_the_metadata_says_what_it_is(metadata: Message) -> None:
    import wellos_jobs

    assert metadata["Name"] == "wellos_jobs"
    assert metadata["Version"] == VERSION == wellos_jobs.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert {"django>=5.2", "rq<4,>=3.0"} <= set(metadata.get_all("Requires-Dist", []))
    assert {"pdf", "postgres", "mysql", "s3", "dev-server", "tasks"} == set(
        metadata.get_all("Provides-Extra", [])
    )


def test_the_changelog_has_this_version() -> None:
    assert f"\n## [{VERSION}]" in (PROJECT / "CHANGELOG.md").read_text()
