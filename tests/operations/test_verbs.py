"""The table of operator verbs: each verb has a function, a permission and an audit text, and the
code uses no audit action that the table lacks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.apps import apps

from wellos_jobs import operations
from wellos_jobs.monitoring import timeline
from wellos_jobs.operations import bulk
from wellos_jobs.operations.verbs import VERBS, Verb
from wellos_jobs.states import AuditAction

PACKAGE = Path(operations.__file__).parents[1]
MODELS_WITH_SCHEDULES = ("schedule", "organizationreportschedule")
NO_OPERATOR_VERB = {"view_payload", "export_auditentry"}
"""Permissions that change nothing."""
NOT_OPERATOR_ACTIONS = {AuditAction.FAILED, AuditAction.BEGAN_ERASING}
"""Written by the ledger when a job fails for good, and at the beginning of an erasure."""


def permissions_of_models() -> set[str]:
    found = set()
    for model in apps.get_app_config("wellos_jobs").get_models():
        meta = model._meta
        found |= {f"{action}_{meta.model_name}" for action in meta.default_permissions}
        found |= {codename for codename, _label in meta.permissions}
    return found


def permissions_of(verb: Verb) -> set[str]:
    return {verb.permission.format(model=model) for model in MODELS_WITH_SCHEDULES}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_each_verb_has_a_function_a_permission_and_an_audit_text(verb: Verb) -> None:
    assert verb.function in operations.__all__
    assert callable(getattr(operations, verb.function))
    if verb.many:
        assert verb.many in operations.__all__
    assert permissions_of(verb) <= permissions_of_models()
    assert str(verb.action.label)
    assert str(verb.label)
    assert bool(verb.many) == bool(verb.list_action) == bool(verb.title)


def test_each_operation_belongs_to_a_verb() -> None:
    functions = {verb.function for verb in VERBS.values()} | {verb.many for verb in VERBS.values()}
    without_button = {"BulkResult", "Person", "find_person"}
    assert set(operations.__all__) - without_button == functions - {""}


def test_each_permission_of_the_models_belongs_to_a_verb() -> None:
    models = apps.get_app_config("wellos_jobs").get_models()
    custom = {codename for model in models for codename, _label in model._meta.permissions}
    used = {permission for verb in VERBS.values() for permission in permissions_of(verb)}
    assert custom - NO_OPERATOR_VERB <= used


def test_names_and_list_actions_are_unique() -> None:
    assert all(name == verb.name for name, verb in VERBS.items())
    listed = [verb.list_action for verb in VERBS.values() if verb.list_action]
    assert len(listed) == len(set(listed))


def test_bulk_operations_run_the_functions_of_the_table() -> None:
    for name, operation in bulk.OPERATIONS.items():
        assert operation is getattr(operations, VERBS[name].many)


def test_each_audit_action_belongs_to_a_verb() -> None:
    assert {verb.action for verb in VERBS.values()} == set(AuditAction) - NOT_OPERATOR_ACTIONS


def test_the_timeline_has_a_sentence_for_each_verb_on_jobs_and_dead_letters() -> None:
    told = {verb.action for verb in VERBS.values() if verb.target in ("job", "dead_letter")}
    assert set(timeline._TEXTS) == told


def test_no_module_passes_an_audit_action_as_text() -> None:
    """An action is passed to ``entry`` and ``record`` as an ``AuditAction``, never as text."""
    faults = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [*node.args, *(item.value for item in node.keywords if item.arg == "action")]
            if name in {"entry", "record", "AuditEntry", "revive"} and any(
                isinstance(value, ast.Constant) and value.value in set(AuditAction)
                for value in given
            ):
                faults.append(f"{path}:{node.lineno}")
    assert not faults, "\n".join(faults)


def test_an_unknown_verb_raises() -> None:
    with pytest.raises(KeyError):
        VERBS["replya"]
