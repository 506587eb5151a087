"""The documentation does what it says: its code runs, and it builds without a warning.

A block marked ``python`` is run, one after the other, in one namespace a page. A block marked
``py`` is a piece of somebody's project that cannot run here: it is compiled, no more.
"""

from __future__ import annotations

import logging.config
import re
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from wellos_jobs import conf
from wellos_jobs.contrib import cleanup, orphans, report_types
from wellos_jobs.definitions import registry
from wellos_jobs.enqueueing import triggers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|py)\b[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the kind and the code of each block of a page."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text[: found.start("code")].count("\n")
        yield line, found["kind"], textwrap.dedent(found["code"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(
    page: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((report_types, "_types"), (orphans, "_folders")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    for name in ("_expired_tokens", "_pending_users"):
        monkeypatch.setattr(cleanup, name, list(getattr(cleanup, name)))
    settings.MEDIA_ROOT = tmp_path
    space: dict[str, Any] = {"__name__": f"documentation_{page.stem.replace('-', '_')}"}
    with registry.isolated(), triggers.isolated():
        for line, kind, code in blocks(page):
            compiled = compile(
                "\n" * line + code, str(page), "exec"
            )  # with the line of the page in a traceback
            if kind == "python":
                exec(compiled, space)
                _settings_are_valid(code, space)
        _test_cases_pass(space)


def _test_cases_pass(space: dict[str, Any]) -> None:
    """Run the test cases that a page declares."""
    declared = [kind for kind in space.values() if isinstance(kind, type)]
    for case in declared:
        if issubclass(case, unittest.TestCase) and case.__module__ == space["__name__"]:
            result = unittest.defaultTestLoader.loadTestsFromTestCase(case).run(
                unittest.TestResult()
            )
            assert result.wasSuccessful(), [text for _, text in result.errors + result.failures]
            assert result.testsRun > 0


def _settings_are_valid(code: str, space: dict[str, Any]) -> None:
    for name in ("WELLOS_JOBS", "RQ_QUEUES"):
        if re.search(rf"^{name} = ", code, re.M):
            with override_settings(**{name: space[name]}):
                assert list(conf.problems()) == []
                conf.queues()
    if re.search(r"^LOGGING = ", code, re.M):
        logging.config.DictConfigurator(space["LOGGING"])


def test_each_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert named == {page.name for page in PAGES[1:]}


@pytest.mark.system
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").exists()
    for page in tmp_path.rglob("*.html"):
        elsewhere = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text()
        )
        assert [url for url in elsewhere if "wellos" not in url] == [], page
