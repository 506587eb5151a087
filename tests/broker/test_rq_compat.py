"""What we use of RQ is as we know it, and is all on the list. A new release breaks here first."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.command import handle_command
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result

import wellos_jobs
from wellos_jobs.broker import rq_compat
from wellos_jobs.broker.rq_compat import ATTRIBUTES, CALLS, OVERRIDES, VALUES, Call, Override
from wellos_jobs.states import STATE_OF_RQ_STATUS

PACKAGE = Path(wellos_jobs.__file__).parent
THEIRS = ("rq", "django_rq", "rq_scheduler")


def find(name: str) -> Any:
    """Return what a name of the list means."""
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = (
            inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
        )
    return found


def signature(function: Any) -> str:
    """Return a signature without annotations."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    plain = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=parameter.empty) for parameter in plain.parameters.values()
    ]
    return str(plain.replace(parameters=parameters, return_annotation=plain.empty))


@pytest.mark.parametrize(("package", "major"), rq_compat.SUPPORTED.items())
def test_the_list_was_made_from_these_versions(package: str, major: str) -> None:
    assert metadata.version(package).partition(".")[0] == major, (
        f"look through rq_surface: a new {package} is here"
    )


@pytest.mark.parametrize(
    "override", OVERRIDES, ids=lambda override: f"{override.ours}-{override.name}"
)
def test_overridden_methods_exist_with_the_signature_we_know(override: Override) -> None:
    theirs = find(override.name)
    if override.signature:
        assert signature(theirs) == override.signature, override.why
    ours = find(override.ours)
    assert override.name.rpartition(".")[2] in vars(ours), (
        f"{override.ours} overrides it no longer: take it off"
    )


def test_every_override_is_on_the_list() -> None:
    listed = {(override.ours, override.name.rpartition(".")[2]) for override in OVERRIDES}
    found = set()
    for ours in {override.ours for override in OVERRIDES}:
        cls = find(ours)
        inherited = {name for base in cls.__mro__[1:-1] for name in vars(base)}
        passed_on = {
            "__doc__",
            "__module__",
            "__annotations__",
            "__static_attributes__",
            "__firstlineno__",
        }
        found |= {(ours, name) for name in vars(cls) if name in inherited and name not in passed_on}
    assert found == listed


def test_every_class_of_ours_that_has_a_base_of_theirs_is_on_the_list() -> None:
    listed = {override.ours for override in OVERRIDES}
    for path in PACKAGE.rglob("*.py"):
        names = {alias.asname or alias.name for _, alias in imports(path)}
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(b, ast.Name) and b.id in names for b in node.bases
            ):
                assert f"{module}:{node.name}" in listed, path


@pytest.mark.parametrize(
    "override", OVERRIDES, ids=lambda override: f"{override.ours}-{override.name}"
)
def test_our_methods_accept_the_arguments_of_theirs(override: Override) -> None:
    if not override.signature:
        return
    theirs = inspect.signature(find(override.name)).parameters
    ours = inspect.signature(
        getattr(find(override.ours), override.name.rpartition(".")[2])
    ).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
    for name, parameter in theirs.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            assert any(other.kind is parameter.kind for other in ours.values()), name
        else:
            assert name in ours or takes_any, f"{override.name} takes {name}"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.name}-{len(call.named)}")
def test_what_we_call_accepts_our_arguments(call: Call) -> None:
    theirs = find(call.name)
    if not call.positional and not call.named:
        return
    theirs = getattr(theirs, "__func__", theirs)
    bound = call.positional + isinstance(find(call.name), classmethod)
    arguments = inspect.signature(theirs).bind(*range(bound), **dict.fromkeys(call.named))
    unnamed = {"args", "kwargs"} & set(arguments.arguments)
    kinds = inspect.signature(theirs).parameters
    swallowed = {name for name in unnamed if kinds[name].kind in (inspect.Parameter.VAR_KEYWORD,)}
    assert not swallowed, f"{call.name} no longer knows {call.named}"


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_the_constants_that_we_repeat(name: str, value: object) -> None:
    assert find(name) == value


@pytest.mark.parametrize(("name", "why"), ATTRIBUTES.items())
def test_the_attributes_that_we_read(name: str, why: str) -> None:
    owner, _, attribute = name.rpartition(".")
    cls = find(owner)
    made = {
        Queue: lambda: Queue(connection=redis.Redis()),
        Job: lambda: Job(connection=redis.Redis()),
    }.get(cls)
    assert hasattr(made() if made else cls, attribute), why


def test_the_key_of_results() -> None:
    assert Result.get_key("x") == f"{rq_compat.RESULTS}x"


def test_every_status_of_rq_has_a_state() -> None:
    assert {status.value for status in JobStatus} <= set(STATE_OF_RQ_STATUS)


def test_rq_reads_the_fields_that_we_write() -> None:
    source = inspect.getsource(Job.restore)
    assert [field for field in rq_compat.JOB_FIELDS if f"'{field}'" not in source] == []


def test_rq_s_commands_are_the_ones_that_we_obey() -> None:
    tree = ast.parse(inspect.getsource(handle_command))
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {text for text in texts if "-" in text and " " not in text} | {"shutdown"} == set(
        rq_compat.COMMANDS
    )


def imports(path: Path) -> Iterator[tuple[str, ast.alias]]:
    """Yield what a module imports from theirs: module and name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").split(".")[0] in THEIRS
        ):
            yield from ((node.module or "", alias) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (alias.name, alias) for alias in node.names if alias.name.split(".")[0] in THEIRS
            )


def test_everything_that_we_import_of_theirs_is_on_the_list() -> None:
    listed = {use.name for use in (*CALLS, *OVERRIDES)} | set(ATTRIBUTES) | set(VALUES)
    objects = {
        name.partition(":")[0] + ":" + name.partition(":")[2].partition(".")[0] for name in listed
    }
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for module, alias in imports(path):
            if alias.name in THEIRS:  # ``import django_rq``: what is used of it is an attribute
                continue
            if f"{module}:{alias.name}" not in objects:
                missing.append(f"{path.relative_to(PACKAGE)}: {module}:{alias.name}")
    assert not missing, "add to rq_compat: " + ", ".join(missing)


def test_everything_that_we_use_of_django_rq_by_attribute_is_on_the_list() -> None:
    listed = {call.name for call in CALLS}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in THEIRS
            ):
                assert f"{node.value.id}:{node.attr}" in listed, path


def test_the_list_imports_nothing_of_theirs_but_the_prefix() -> None:
    source = (PACKAGE / "broker" / "rq_compat.py").read_text()
    assert not list(imports(PACKAGE / "broker" / "rq_compat.py")) and "from . import keys" in source
    assert "wellos_jobs.broker.rq_compat" in sys.modules
