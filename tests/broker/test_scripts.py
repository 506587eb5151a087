"""The names that Lua scripts and Python share: fields of hashes, arguments and answers."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.claims import CLAIM_FIELDS, ClaimCall, SettleCall
from wellos_jobs.broker.connection import script_digest

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
