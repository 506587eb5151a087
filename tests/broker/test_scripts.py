"""The names that Lua scripts and Python share: fields of hashes, arguments and answers."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.claims import CLAIM_FIELDS, ClaimCall, SettleCall
from wellos_jobs.broker.connection import script_digest, script_source

PACKAGE = Path(str(resources.files("wellos_jobs")))
SCRIPTS = PACKAGE / "broker" / "scripts"

JOB_FIELDS = {
    value for name, value in vars(job_hash).items() if name.isupper() and isinstance(value, str)
}
WORKER_FIELDS = {
    *("w:seq", "w:settled", "w:claimed", "w:due"),  # the last answer
    *("w:supervisor", "w:memory", "w:quiet"),
}
EXECUTION_FIELDS = {"w:queue"}


def text_of(name: str) -> str:
    return (SCRIPTS / name).read_text()


def names_in(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'", text))


def test_scripts_use_the_fields_that_python_knows() -> None:
    used: set[str] = set()
    for path in SCRIPTS.rglob("*.lua"):
        used.update(re.findall(r"'(w:[a-z]+)'", path.read_text()))
    assert used <= JOB_FIELDS | WORKER_FIELDS | EXECUTION_FIELDS

    of_jobs = {field for field in JOB_FIELDS if field.startswith("w:")}
    written_by_push = {"w:org", "w:user", "w:ctx"}
    assert of_jobs - used <= written_by_push


def test_the_names_of_fields_stand_in_one_module() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("job_hash.py", "rq_workers.py")
        for name in re.findall(r"\"(w:[a-z]+)\"", path.read_text())
    ]
    assert not found, "use wellos_jobs.broker.job_hash"


def names_defined_in(text: str) -> set[str]:
    names = set(re.findall(r"^local function (\w+)", text, re.MULTILINE))
    for group in re.findall(r"^local ([\w, ]+) =", text, re.MULTILINE):
        names.update(group.split(", "))
    return names


def names_used_in(text: str) -> set[str]:
    code = re.sub(r"'[^']*'", "''", re.sub(r"--.*", "", text))
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", code))


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.lua")))
def test_a_script_includes_what_it_uses(name: str) -> None:
    shared: set[str] = set()
    for path in (SCRIPTS / "include").glob("*.lua"):
        shared |= names_defined_in(path.read_text())

    source = script_source(name)
    defined = set(re.findall(r"local function (\w+)", source))
    for group in re.findall(r"local ([\w, ]+)", source):
        defined.update(part.strip() for part in group.split(","))
    assert names_used_in(source) & shared <= defined


def test_claim_takes_its_arguments_in_the_order_of_python() -> None:
    names = re.search(r"arguments\(\{(.*?)\}\)", text_of("claim.lua"), re.DOTALL)
    assert names is not None
    assert names_in(names[1]) == ClaimCall._fields


def test_settle_takes_its_arguments_in_the_order_of_python() -> None:
    names = re.search(r"arguments\(\{(.*?)\}\)", text_of("settle.lua"), re.DOTALL)
    assert names is not None
    assert names_in(names[1]) == ClaimCall._fields + SettleCall._fields


def test_an_answer_holds_the_fields_that_python_expects() -> None:
    names = re.search(r"CLAIM_FIELDS = \{(.*?)\}", text_of("include/claiming.lua"), re.DOTALL)
    assert names is not None
    assert names_in(names[1]) == CLAIM_FIELDS


def test_each_script_is_called_by_the_hash_of_its_text() -> None:
    digests = {script_digest(path.stem) for path in SCRIPTS.glob("*.lua")}
    assert len(digests) == len(list(SCRIPTS.glob("*.lua")))
    assert all(re.fullmatch(r"[0-9a-f]{40}", digest) for digest in digests)


def test_own_keys_stand_under_their_own_prefix() -> None:
    assert f"{keys.PREFIX}:wellos:" == keys.OWN
