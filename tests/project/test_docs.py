"""The reference lists all settings, checks, signals, options, operations and commands."""

from __future__ import annotations

import dataclasses
import pkgutil
import re
from pathlib import Path

import wellos_jobs.checks
import wellos_jobs.management.commands
from wellos_jobs import JobOptions, operations, signals
from wellos_jobs.conf import Conf
from wellos_jobs.definitions.definition import JobDefinition
from wellos_jobs.states import EventName, JobState

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def section(title: str) -> str:
    return re.split(r"^## ", REFERENCE.split(f"## {title}\n")[1], flags=re.M)[0]


def test_every_setting_is_in_the_table_and_none_besides() -> None:
    named = set(re.findall(r"^\| `([A-Z_]+)`", section("Settings"), flags=re.M))
    assert named == {option.name.upper() for option in dataclasses.fields(Conf)}


def test_every_check_is_in_the_table_and_none_besides() -> None:
    sources = Path(wellos_jobs.__file__).parent.rglob("*.py")
    raised = {
        found
        for source in sources
        for found in re.findall(r"wellos_jobs\.[EWI]\d+", source.read_text())
    }
    assert (
        set(re.findall(r"^\| `(wellos_jobs\.[EWI]\d+)`", section("Checks"), flags=re.M)) == raised
    )


def test_every_signal_is_named() -> None:
    declared = {name for name, value in vars(signals).items() if isinstance(value, signals.Signal)}
    assert {name for name in declared if f"`{name}`" not in section("Signals")} == set()


def test_every_option_is_named() -> None:
    text = section("Options of a job")
    declared = {option.name for option in dataclasses.fields(JobOptions)}
    declared |= {option.name for option in dataclasses.fields(JobDefinition)} - {
        "name",
        "function",
    }
    assert {name for name in declared if f"`{name}`" not in text} == set()


def test_every_command_is_in_the_table_and_none_besides() -> None:
    commands = {
        module.name for module in pkgutil.iter_modules(wellos_jobs.management.commands.__path__)
    }
    assert set(re.findall(r"^\| `(\w+)", section("Commands"), flags=re.M)) == commands


def test_every_operation_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+)[`(]", section("Operations")))
    assert set(operations.__all__) <= named


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (
                f"{page.name} links to {target}, which does not exist"
            )


def test_every_package_is_in_the_table_of_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split("## Packages")[1].split("\n\n| package")[1].split("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    packages = {path.parent.name for path in (ROOT / "wellos_jobs").glob("*/__init__.py")}
    assert named == packages - {"migrations", "templatetags"}


def glossary(title: str) -> list[list[str]]:
    """Return the rows of one table of the glossary, without its heading."""
    page = (ROOT / "docs" / "concepts.md").read_text()
    section = page.split(f"### {title}\n")[1].partition("\n### ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_glossary_is_in_alphabetical_order_and_names_each_word_once() -> None:
    common, own = glossary("Common terms"), glossary("Our own terms")
    for table in (common, own):
        assert table == sorted(table)
    words = [row[0] for row in common + own]
    assert len(words) == len(set(words))


def test_the_glossary_has_every_state_and_event() -> None:
    kinds = {word: meaning.partition(":")[0].lower() for word, meaning in glossary("Common terms")}
    assert {state for state in JobState if "state" not in kinds.get(state, "")} == set()
    assert {event for event in EventName if "event" not in kinds.get(event, "")} == set()


def test_each_term_of_our_own_has_a_reason() -> None:
    own = glossary("Our own terms")
    assert 0 < len(own) < 20
    assert [row for row in own if len(row) != 3] == []
