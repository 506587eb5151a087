"""The conformance suite, run over Django's own backends and over ours."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

import pytest
from django.test import TransactionTestCase

from wellos_jobs.definitions import registry
from wellos_jobs.testing.task_backend_conformance import (
    FEATURES,
    DummyConformance,
    ImmediateConformance,
    JobsConformance,
    TaskBackendConformance,
)


class TestImmediate(ImmediateConformance, TransactionTestCase):
    pass


class TestDummy(DummyConformance, TransactionTestCase):
    pass


@pytest.mark.usefixtures("no_notices")
class TestJobs(JobsConformance, TransactionTestCase):
    databases: ClassVar[Any] = {"default", "other"}

    def setUp(self) -> None:
        isolated = registry.isolated()
        isolated.__enter__()
        self.addCleanup(isolated.__exit__, None, None, None)
        super().setUp()

    def test_all_features_are_claimed(self) -> None:
        assert self.claims() == set(FEATURES)


def test_each_test_belongs_to_a_feature() -> None:
    tests = [test for name, test in vars(TaskBackendConformance).items() if name.startswith("test")]
    assert tests
    assert {test.feature for test in tests} == set(FEATURES)


def test_a_backend_that_does_not_keep_its_promise_fails() -> None:
    """The suite can fail: a backend that claims results and has none, and one that loses errors."""

    class Forgetful(TaskBackendConformance, TransactionTestCase):
        backend: ClassVar[Any] = DummyConformance.backend

    names = ["test_a_task_that_succeeds", "test_a_task_that_fails", "test_tuples_become_lists"]
    result = unittest.TestResult()
    for name in names:
        case = Forgetful(name)
        case.setUp()
        test = getattr(case, name)
        try:
            test()
        except AssertionError:
            result.failures.append((case, name))
        finally:
            case.doCleanups()
    assert [name for _, name in result.failures] == names[:2]
