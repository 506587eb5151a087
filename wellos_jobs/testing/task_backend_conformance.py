"""What a backend for Django's Tasks has to do, as tests that any backend can be run through.

    class MyBackendTests(TaskBackendConformance, TransactionTestCase):
        backend = {"BACKEND": "my_package.MyBackend", "QUEUES": []}

        def work(self) -> None:
            my_package.run_all_that_is_due()

A test of a feature that the backend does not claim is skipped. The tests ask for what Django
documents, and for what its built-in backends do; ``transactional`` and ``retries`` are claims of
their own, as Django's flags do not cover them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

from .. import broker
from ..broker import keys
from ..database import default_database
from ..definitions.retry import fixed
from ..ledger.ledger import Ledger
from ..processes.shared_memory import Slot
from ..task_backend.framework import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    declare,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from ..worker.known_code import queue_set_of, register
from ..worker.worker import Worker, WorkerOptions

if TYPE_CHECKING:
    from django.test import TransactionTestCase as _TestCase
else:
    _TestCase = object

FAR = datetime(2100, 1, 1, tzinfo=UTC)

FEATURES = (
    "declaration",
    "arguments",
    "results",
    "errors",
    "get_result",
    "async",
    "context",
    "priority",
    "defer",
    "signals",
    "transactions",
    "retries",
)
"""The parts of the suite, in the order of a table."""


# --- the tasks ------------------------------------------------------------------------------------
# Each becomes a task of the backend under test, under its name in this module: a worker of another
# process imports the module, and finds the task of the project's own settings.


class SampleError(Exception):
    """What a failing task raises."""


def conform_add(a: int, b: int) -> int:
    return a + b


def conform_echo(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


def conform_nothing() -> None:
    return None


def conform_fail(text: str) -> None:
    raise SampleError(text)


def conform_exit() -> None:
    raise SystemExit(3)


def conform_object() -> object:
    return object()


async def conform_add_async(a: int, b: int) -> int:
    return a + b


async def conform_fail_async(text: str) -> None:
    raise SampleError(text)


def conform_context(context: Any, extra: str) -> list[Any]:
    return [context.task_result.id, context.attempt, extra]


async def conform_context_async(context: Any) -> list[Any]:
    return [context.task_result.id, context.attempt]


def conform_fail_once(context: Any) -> int:
    if context.attempt == 1:
        raise SampleError("the first attempt")
    return int(context.attempt)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    name: function for name, function in list(globals().items()) if name.startswith("conform_")
}


_declare: Any = declare


def declare_samples() -> None:
    """Declare the tasks of this module with the backend in force; those it refuses are left."""
    for name, function in _FUNCTIONS.items():
        takes_context = name.startswith(("conform_context", "conform_fail_once"))
        try:
            globals()[name] = _declare(takes_context=takes_context)(function)
        except InvalidTask:
            globals()[name] = function


def sample(name: str) -> AnyTask:
    """Return the task of a function of this module."""
    return globals()[f"conform_{name}"]  # type: ignore[no-any-return]


declare_samples()


# --- the suite ------------------------------------------------------------------------------------

Test = Callable[["TaskBackendConformance"], None]


def feature(name: str) -> Callable[[Test], Test]:
    """Mark a test as one of a feature; it is skipped for backends that do not claim it."""

    def mark(test: Test) -> Test:
        test.feature = name  # type: ignore[attr-defined]
        return test

    return mark


class TaskBackendConformance(_TestCase):
    """A mixin for ``TransactionTestCase``, or for ``TestCase`` if no other process does the work.

    Set ``backend``, and ``work`` unless a task runs when it is enqueued.
    """

    backend: ClassVar[Mapping[str, Any]] = {}
    """The entry of ``TASKS``. ``QUEUES`` must allow ``default``."""
    runs_tasks: ClassVar[bool] = True
    """Whether tasks are run at all."""
    in_process: ClassVar[bool] = True
    """Whether this process hears the signals of a run."""
    transactional: ClassVar[bool] = False
    """Whether an enqueue belongs to the transaction of its caller, and is taken back with it."""
    retries: ClassVar[bool] = False
    """Whether a task that fails once is run again, without a pause."""

    def work(self) -> None:
        """Run all tasks that are due, retries included, until none is left."""

    def setUp(self) -> None:
        super().setUp()
        if not self.backend:
            self.skipTest("no backend is given")
        settings = override_settings(TASKS={"default": dict(self.backend)})
        settings.enable()
        self.addCleanup(settings.disable)
        declare_samples()

        wanted = getattr(getattr(self, self._testMethodName), "feature", "declaration")
        if wanted not in self.claims():
            self.skipTest(f"{wanted} is not claimed")

    @property
    def under_test(self) -> BaseTaskBackend:
        """The backend."""
        return task_backends["default"]

    def claims(self) -> set[str]:
        """Return the features that the backend claims."""
        backend = self.under_test
        claimed = {
            "declaration": True,
            "arguments": True,
            "results": self.runs_tasks,
            "errors": self.runs_tasks,
            "get_result": backend.supports_get_result,
            "async": backend.supports_async_task,
            "context": self.runs_tasks,
            "priority": self.runs_tasks and backend.supports_priority,
            "defer": backend.supports_defer,
            "signals": True,
            "transactions": self.transactional,
            "retries": self.retries,
        }
        return {name for name, claim in claimed.items() if claim}

    def finish(self, result: AnyResult) -> AnyResult:
        """Have a task run, and return its result as it is then."""
        self.work()
        if self.under_test.supports_get_result:
            result.refresh()
        return result

    def run_sample(self, name: str, *args: Any, **kwargs: Any) -> AnyResult:
        """Enqueue a task, have it run, and return its result."""
        return self.finish(sample(name).enqueue(*args, **kwargs))

    # --- declaration ------------------------------------------------------------------------------

    @feature("declaration")
    def test_a_task_knows_its_function(self) -> None:
        task = sample("add")
        self.assertIsInstance(task, Task)
        self.assertIsInstance(task, self.under_test.task_class)
        self.assertEqual(task.name, "conform_add")
        self.assertEqual(task.module_path, f"{__name__}.conform_add")
        self.assertEqual(task.call(1, 2), 3)
        self.assertEqual((task.priority, task.queue_name, task.backend), (0, "default", "default"))

    @feature("declaration")
    def test_using_makes_another_task(self) -> None:
        task = sample("add")
        other = task.using(queue_name="default", backend="default")
        self.assertEqual(other, task)
        self.assertIs(other.func, task.func)

    @feature("declaration")
    def test_a_local_function_is_refused(self) -> None:
        def local() -> None:
            return None

        with self.assertRaises(InvalidTask):
            declare(local)

    @feature("declaration")
    def test_a_context_needs_its_parameter(self) -> None:
        with self.assertRaises(InvalidTask):
            declare(takes_context=True)(_FUNCTIONS["conform_add"])

    @feature("declaration")
    def test_a_queue_that_is_not_allowed_is_refused(self) -> None:
        if not self.under_test.queues:
            self.skipTest("all queues are allowed")
        with self.assertRaises(InvalidTask):
            sample("add").using(queue_name="conformance-nowhere")

    @feature("declaration")
    def test_an_unknown_backend_is_refused(self) -> None:
        with self.assertRaises(Exception) as caught:
            sample("add").using(backend="conformance-nowhere")
        self.assertIn("InvalidTaskBackend", type(caught.exception).__name__)

    @feature("declaration")
    def test_what_is_not_claimed_is_refused(self) -> None:
        backend = self.under_test
        if not backend.supports_priority:
            with self.assertRaises(InvalidTask):
                sample("add").using(priority=1)
        if not backend.supports_defer:
            with self.assertRaises(InvalidTask):
                sample("add").using(run_after=FAR)
        if not backend.supports_async_task:
            with self.assertRaises(InvalidTask):
                declare(_FUNCTIONS["conform_add_async"])

    # --- arguments --------------------------------------------------------------------------------

    @feature("arguments")
    def test_a_result_has_the_arguments(self) -> None:
        result = sample("echo").enqueue(1, "two", three=[3], four=None)
        self.assertEqual(result.args, [1, "two"])
        self.assertEqual(result.kwargs, {"three": [3], "four": None})
        self.assertEqual(result.backend, "default")
        self.assertEqual(result.task, sample("echo"))

    @feature("arguments")
    def test_each_result_has_an_id_of_its_own(self) -> None:
        first, second = sample("nothing").enqueue(), sample("nothing").enqueue()
        self.assertIsInstance(first.id, str)
        self.assertNotEqual(first.id, second.id)
        self.assertIsNotNone(first.enqueued_at)

    @feature("arguments")
    def test_tuples_become_lists(self) -> None:
        result = sample("echo").enqueue((1, (2,)), x=(3,))
        self.assertEqual((result.args, result.kwargs), ([[1, [2]]], {"x": [3]}))

    @feature("arguments")
    def test_arguments_must_be_json(self) -> None:
        for value in (datetime.now(UTC), object(), {1, 2}):
            with self.assertRaises(TypeError):
                sample("echo").enqueue(value)
            with self.assertRaises(TypeError):
                sample("echo").enqueue(x=value)

    # --- results ----------------------------------------------------------------------------------

    @feature("results")
    def test_a_task_that_succeeds(self) -> None:
        result = self.run_sample("add", 1, b=2)
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertTrue(result.is_finished)
        self.assertEqual((result.return_value, result.errors), (3, []))

    @feature("results")
    def test_the_arguments_arrive(self) -> None:
        result = self.run_sample("echo", 1, [2, {"x": None}], key={"y": 0.5})
        self.assertEqual(result.return_value, [[1, [2, {"x": None}]], {"key": {"y": 0.5}}])

    @feature("results")
    def test_a_task_may_return_nothing(self) -> None:
        result = self.run_sample("nothing")
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertIsNone(result.return_value)

    @feature("results")
    def test_the_times_are_in_order(self) -> None:
        result = self.run_sample("nothing")
        times = [
            result.enqueued_at,
            result.started_at,
            result.last_attempted_at,
            result.finished_at,
        ]
        self.assertNotIn(None, times)
        self.assertEqual(times, sorted(times, key=lambda moment: moment or FAR))

    @feature("results")
    def test_the_worker_is_known(self) -> None:
        result = self.run_sample("nothing")
        self.assertEqual((result.attempts, len(result.worker_ids)), (1, 1))
        self.assertTrue(result.worker_ids[0])

    # --- errors -----------------------------------------------------------------------------------

    @feature("errors")
    def test_a_task_that_fails(self) -> None:
        result = self.run_sample("fail", "out of paper")
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertTrue(result.is_finished)
        self.assertIs(result.errors[-1].exception_class, SampleError)
        self.assertIn("out of paper", result.errors[-1].traceback)
        self.assertIn("conform_fail", result.errors[-1].traceback)
        with self.assertRaises(ValueError):
            _ = result.return_value

    @feature("errors")
    def test_a_task_that_exits_ends_no_worker(self) -> None:
        result = self.run_sample("exit")
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertIs(result.errors[-1].exception_class, SystemExit)
        self.assertEqual(self.run_sample("add", 1, 2).return_value, 3)

    @feature("errors")
    def test_a_return_value_must_be_json(self) -> None:
        result = self.run_sample("object")
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertTrue(result.errors)

    @feature("errors")
    def test_each_attempt_has_an_error_and_a_worker(self) -> None:
        result = self.run_sample("fail", "again")
        self.assertEqual(len(result.errors), result.attempts)
        self.assertGreaterEqual(result.attempts, 1)

    # --- get_result -------------------------------------------------------------------------------

    @feature("get_result")
    def test_a_result_is_found_by_its_id(self) -> None:
        result = sample("add").enqueue(1, 2)
        for found in (sample("add").get_result(result.id), self.under_test.get_result(result.id)):
            self.assertEqual((found.id, found.task), (result.id, result.task))
            self.assertEqual((found.args, found.kwargs), ([1, 2], {}))

    @feature("get_result")
    def test_a_result_can_be_refreshed(self) -> None:
        result = sample("add").enqueue(1, 2)
        self.work()
        result.refresh()
        self.assertEqual(result.return_value, 3)

    @feature("get_result")
    def test_it_is_found_from_another_thread(self) -> None:
        result = sample("add").enqueue(1, 2)
        self.work()
        found: list[Any] = []

        def look() -> None:
            from django.db import connections

            try:
                found.append(self.under_test.get_result(result.id).return_value)
            finally:
                connections.close_all()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(found, [3])

    @feature("get_result")
    def test_the_result_of_another_task_is_refused(self) -> None:
        result = sample("nothing").enqueue()
        with self.assertRaises(TaskResultMismatch):
            sample("add").get_result(result.id)

    @feature("get_result")
    def test_an_unknown_id(self) -> None:
        for result_id in ("conformance", "00000000-0000-0000-0000-000000000000", ""):
            with self.assertRaises(TaskResultDoesNotExist):
                self.under_test.get_result(result_id)

    @feature("get_result")
    def test_async_reading(self) -> None:
        result = sample("add").enqueue(1, 2)
        self.work()
        found = async_to_sync(sample("add").aget_result)(result.id)
        async_to_sync(result.arefresh)()
        self.assertEqual((found.return_value, result.return_value), (3, 3))

    # --- async ------------------------------------------------------------------------------------

    @feature("async")
    def test_a_coroutine_runs(self) -> None:
        result = self.run_sample("add_async", 1, b=2)
        if self.runs_tasks:
            self.assertEqual(result.return_value, 3)

    @feature("async")
    def test_a_coroutine_fails(self) -> None:
        result = self.run_sample("fail_async", "later")
        if self.runs_tasks:
            self.assertEqual(result.status, TaskResultStatus.FAILED)
            self.assertIs(result.errors[-1].exception_class, SampleError)

    @feature("async")
    def test_async_code_enqueues(self) -> None:
        for name in ("add", "add_async"):
            result = self.finish(async_to_sync(sample(name).aenqueue)(1, b=2))
            self.assertEqual((result.args, result.kwargs), ([1], {"b": 2}))
            if self.runs_tasks:
                self.assertEqual(result.return_value, 3)

    # --- context ----------------------------------------------------------------------------------

    @feature("context")
    def test_a_task_gets_its_context(self) -> None:
        result = self.run_sample("context", "more")
        self.assertEqual(result.return_value, [result.id, 1, "more"])
        self.assertEqual((result.args, result.kwargs), (["more"], {}))

    @feature("context")
    def test_a_coroutine_gets_its_context(self) -> None:
        if not self.under_test.supports_async_task:
            self.skipTest("async is not claimed")
        result = self.run_sample("context_async")
        self.assertEqual(result.return_value, [result.id, 1])

    # --- priority ---------------------------------------------------------------------------------

    @feature("priority")
    def test_priorities_out_of_range_are_refused(self) -> None:
        for priority in (-101, 101, 0.5):
            with self.assertRaises(InvalidTask):
                sample("add").using(priority=priority)  # type: ignore[arg-type]

    @feature("priority")
    def test_the_more_urgent_task_runs_first(self) -> None:
        if not self.under_test.supports_get_result:
            self.skipTest("tasks run when they are enqueued")
        task = sample("nothing")
        results = [task.using(priority=number).enqueue() for number in (-100, 0, 100)]
        self.work()
        for result in results:
            result.refresh()
        started = [result.started_at or FAR for result in results]
        self.assertEqual(started, sorted(started, reverse=True))
        self.assertEqual([result.task.priority for result in results], [-100, 0, 100])

    # --- defer ------------------------------------------------------------------------------------

    @feature("defer")
    def test_a_task_of_the_future_waits(self) -> None:
        result = self.finish(sample("nothing").using(run_after=FAR).enqueue())
        self.assertEqual(result.status, TaskResultStatus.READY)
        self.assertEqual(result.task.run_after, FAR)
        self.assertIsNone(result.started_at)

    @feature("defer")
    def test_a_task_of_the_past_runs(self) -> None:
        past = datetime.now(UTC) - timedelta(hours=1)
        result = self.finish(sample("nothing").using(run_after=past).enqueue())
        if self.runs_tasks:
            self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)

    @feature("defer")
    def test_a_naive_time_is_refused(self) -> None:
        with self.assertRaises(InvalidTask):
            sample("nothing").using(run_after=datetime(2100, 1, 1))

    # --- signals ----------------------------------------------------------------------------------

    @feature("signals")
    def test_the_signals_of_a_task(self) -> None:
        heard = self._heard("nothing", succeeds=True)
        expected = [("enqueued", TaskResultStatus.READY)]
        if self.runs_tasks and self.in_process:
            expected += [
                ("started", TaskResultStatus.RUNNING),
                ("finished", TaskResultStatus.SUCCESSFUL),
            ]
        self.assertEqual(heard, expected)

    @feature("signals")
    def test_the_last_signal_of_a_failure(self) -> None:
        if not (self.runs_tasks and self.in_process):
            self.skipTest("the tasks are run elsewhere")
        heard = self._heard("fail", "no", succeeds=False)
        self.assertEqual(heard[-1], ("finished", TaskResultStatus.FAILED))
        self.assertEqual([name for name, _ in heard].count("finished"), 1)

    def _heard(self, name: str, *args: Any, succeeds: bool) -> list[tuple[str, Any]]:
        """Run a task; return its signals, each with the status of the result."""
        heard: list[tuple[str, Any, str, Any]] = []

        def listener(signal: str) -> Callable[..., None]:
            def receive(sender: Any, task_result: AnyResult, **_: Any) -> None:
                heard.append((signal, task_result.status, task_result.id, sender))

            return receive

        signals = {
            "enqueued": task_enqueued,
            "started": task_started,
            "finished": task_finished,
        }
        receivers = {signal: listener(signal) for signal in signals}
        for signal, receiver in receivers.items():
            signals[signal].connect(receiver)
        try:
            result = self.run_sample(name, *args)
        finally:
            for signal, receiver in receivers.items():
                signals[signal].disconnect(receiver)

        # Tasks of other tests may be run, too.
        own = [one for one in heard if one[2] == result.id]
        self.assertEqual({sender for *_, sender in own}, {type(self.under_test)})
        return [(signal, status) for signal, status, *_ in own]

    # --- transactions -----------------------------------------------------------------------------

    @feature("transactions")
    def test_a_rollback_takes_the_task_back(self) -> None:
        ids: list[str] = []
        with self.assertRaises(SampleError), transaction.atomic():
            ids.append(sample("nothing").enqueue().id)
            raise SampleError
        self.work()
        with self.assertRaises(TaskResultDoesNotExist):
            self.under_test.get_result(ids[0])

    @feature("transactions")
    def test_a_task_does_not_run_before_the_commit(self) -> None:
        with transaction.atomic():
            result = sample("nothing").enqueue()
            self.work()
            result.refresh()
            self.assertEqual(result.status, TaskResultStatus.READY)
        self.assertEqual(self.finish(result).status, TaskResultStatus.SUCCESSFUL)

    # --- retries ----------------------------------------------------------------------------------

    @feature("retries")
    def test_a_retry_keeps_what_was_before(self) -> None:
        result = self.run_sample("fail_once")
        self.assertEqual((result.status, result.return_value), (TaskResultStatus.SUCCESSFUL, 2))
        self.assertEqual([error.exception_class for error in result.errors], [SampleError])
        self.assertEqual((result.attempts, len(result.worker_ids)), (2, 2))


# --- the backends that are at hand ----------------------------------------------------------------

_BUILT_IN = BaseTaskBackend.__module__.removesuffix(".base")


class ImmediateConformance(TaskBackendConformance):
    """Django's own backend that runs a task when it is enqueued."""

    backend: ClassVar[Mapping[str, Any]] = {
        "BACKEND": f"{_BUILT_IN}.immediate.ImmediateBackend",
    }


class DummyConformance(TaskBackendConformance):
    """Django's own backend that runs nothing."""

    backend: ClassVar[Mapping[str, Any]] = {"BACKEND": f"{_BUILT_IN}.dummy.DummyBackend"}
    runs_tasks = False


class JobsConformance(TaskBackendConformance):
    """The backend of this package, on the Redis of ``RQ_QUEUES``: one that nothing else uses."""

    backend: ClassVar[Mapping[str, Any]] = {
        "BACKEND": "wellos_jobs.task_backend.JobsBackend",
        "OPTIONS": {"backoff": fixed(0)},
    }
    transactional = True
    retries = True

    def work(self) -> None:
        """Run a worker in this process until nothing is left, and let the ledger follow."""
        source, queues = broker.source_of("default"), ["default"]
        queue_set = queue_set_of(queues)
        connection = broker.source_client(source, "work")
        register(connection, queue_set, queues)

        options = WorkerOptions(source, queues, queue_set, burst=True)
        _WorkerWithoutSignals("conformance", options, Slot()).work()

        connection.set(keys.EPOCH, "conformance", nx=True)
        ledger = Ledger(source, default_database(), connection)
        ledger.open(broker.text(connection.get(keys.EPOCH)))
        while ledger.drain():
            pass


class _WorkerWithoutSignals(Worker):
    """A worker that leaves the signals of the process to the tests."""

    def _install_signals(self) -> None:
        return


BACKENDS: Mapping[str, type[TaskBackendConformance]] = {
    "Immediate": ImmediateConformance,
    "Dummy": DummyConformance,
    "wellos_jobs": JobsConformance,
}
"""The suites of a table."""
