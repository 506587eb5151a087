"""The registry: what a declaration may say, how names are found, and how arguments are bound."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from wellos_jobs.definitions import registry
from wellos_jobs.definitions.definition import JobDefinition
from wellos_jobs.definitions.registry import register
from wellos_jobs.definitions.retry import RetryPolicy, exponential, fixed
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import BadOption, DuplicateJobName, PayloadError, UnknownJob
from wellos_jobs.states import Priority


def generate_invoice(
    invoice_id: str, format: str = "pdf", *, copies: int = 1, token: str = ""
) -> tuple[Any, ...]:
    return (invoice_id, format, copies, token)


def anything(first: int, **rest: Any) -> dict[str, Any]:
    return {"first": first, **rest}


def nothing() -> None: ...


async def wait_for_it(value: int) -> int:
    return value + 1


def positional_only(a: int, /, b: int) -> None: ...


def star_args(*rows: int) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


@functools.wraps(generate_invoice)
def decorated(*args: Any, **kwargs: Any) -> Any:
    return generate_invoice(*args, **kwargs)


class Reports:
    @staticmethod
    def weekly(organization_id: str) -> str:
        return organization_id

    def method(self) -> None: ...


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


def invoice(**options: Any) -> JobDefinition:
    return define("generate-invoice", generate_invoice, **options)


# --- declarations ---------------------------------------------------------------------------------


def test_the_defaults_of_a_declaration() -> None:
    definition = invoice()
    assert definition.name == "generate-invoice"
    assert definition.function is generate_invoice
    assert definition.queue == "default"
    assert definition.priority is Priority.NORMAL
    assert definition.timeout is None
    assert definition.sensitive == ()
    assert definition.policy == RetryPolicy(3, exponential(2))
    assert definition.path == "tests.definitions.test_registry.generate_invoice"
    assert not definition.is_async


def test_all_options_of_a_declaration() -> None:
    definition = invoice(
        queue="reports",
        priority=Priority.BULK,
        max_attempts=5,
        backoff=fixed(3),
        timeout=timedelta(minutes=2),
        sensitive=["token"],
        retry_on=[KeyError],
        discard_on=ValueError,
    )
    assert definition.queue == "reports"
    assert definition.priority is Priority.BULK
    assert definition.timeout == 120.0
    assert definition.sensitive == ("token",)
    assert definition.retry_on == (KeyError,)
    assert definition.discard_on == (ValueError,)
    assert definition.policy == RetryPolicy(5, fixed(3), (KeyError,), (ValueError,))
    assert hash(definition) == hash(definition)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "7",
        "generate-invoice",
        "billing.invoices:generate/v2",
        "A_b",
        "a" * 180,
        "tests.jobs.add",
    ],
)
def test_valid_names(name: str) -> None:
    assert define(name, nothing).name == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "-a", ".a", "a b", "a\n", "é", "a" * 181, "a?", "a\x00", None, 7, b"a"],
    ids=repr,
)
def test_invalid_names(name: Any) -> None:
    with pytest.raises(BadOption, match=re.escape(repr(name)) + ".*is not a valid job name"):
        define(name, nothing)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attempt": 3}, "unknown option 'max_attempt': did you mean 'max_attempts'?"),
        ({"que": "x"}, "unknown option 'que': did you mean 'queue'?"),
        (
            {"zzz": 1},
            "unknown option 'zzz'; known options are backoff, discard_on, limits, manual, ",
        ),
        ({"name": "x"}, None),
        ({"max_attempts": 0}, "max_attempts is 0: it must be a whole number of at least 1"),
        ({"max_attempts": None}, "max_attempts is None"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"backoff": 2}, "backoff is 2: make one with exponential(...) or fixed(...)"),
        ({"timeout": 0}, "timeout is 0: it must be between"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": "60"}, "timeout is '60': give a number of seconds or a timedelta"),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": timedelta(0)}, "timeout is datetime.timedelta(0)"),
        ({"queue": ""}, "queue is ''"),
        ({"queue": None}, "queue is None"),
        ({"queue": 7}, "queue is 7"),
        (
            {"priority": 5},
            "priority is 5: use one of Priority.CRITICAL, Priority.HIGH, Priority.NORMAL",
        ),
        ({"priority": "high"}, "priority is 'high'"),
        ({"priority": None}, "priority is None"),
        (
            {"sensitive": "token"},
            "sensitive is the text 'token': give a tuple of names, ('token',)",
        ),
        ({"sensitive": 7}, "sensitive is 7"),
        (
            {"sensitive": ("tokn",)},
            "sensitive has the unknown parameter 'tokn': did you mean 'token'?",
        ),
        (
            {"sensitive": ("zzz",)},
            "sensitive has the unknown parameter 'zzz'; known parameters are copies, format",
        ),
        ({"sensitive": (7,)}, "sensitive has the unknown parameter 7"),
        ({"retry_on": ("KeyError",)}, "retry_on has 'KeyError'"),
        ({"discard_on": 7}, "discard_on has 7"),
        ({"version": 0}, "version is 0: give a whole number from 1 to 32767"),
        ({"version": True}, "version is True"),
        ({"version": "2"}, "version is '2'"),
        ({"version": 40_000}, "version is 40000"),
        (
            {"version": 2},
            "version is 2, and upgrade has no step from 1 to 2: add upgrade={1: function}",
        ),
        (
            {"version": 4, "upgrade": {1: dict, 3: dict}},
            "version is 4, and upgrade has no step from 2 to 3",
        ),
        (
            {"upgrade": {1: dict}},
            "upgrade has a step from 1 to 2, and version is 1: give version=2",
        ),
        ({"version": 2, "upgrade": dict}, "upgrade is <class 'dict'>: give a dict of functions"),
        ({"version": 2, "upgrade": {"1": dict}}, "upgrade has the key '1'"),
        ({"version": 2, "upgrade": {1: 7}}, "upgrade[1] is 7: give a plain function"),
        pytest.param(
            {"version": 2, "upgrade": {1: wait_for_it}},
            "upgrade[1] is <function wait_for_it",
            id="an upgrade that is async",
        ),
    ],
    ids=repr,
)
def test_invalid_options(options: dict[str, Any], text: str | None) -> None:
    if text is None:
        with pytest.raises(TypeError, match="name"):
            invoice(**options)
        return
    with pytest.raises(BadOption, match="^" + re.escape(f"Job 'generate-invoice': {text}")):
        invoice(**options)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: None, "<lambda> is a local function or a lambda"),
        (positional_only, "parameter 'a' is positional-only"),
        (star_args, "it takes *rows"),
        (generator, "generator is a generator"),
        (async_generator, "async_generator is a generator"),
        (Reports, "is not a function"),
        (Reports(), "is not a function"),
        (functools.partial(nothing), "is not a function"),
        ("tests.jobs.add", "is not a function"),
        (None, "is not a function"),
    ],
)
def test_functions_that_cannot_be_jobs(function: Any, text: str) -> None:
    with pytest.raises(BadOption, match=rf"^Job 'broken': .*{re.escape(text)}"):
        define("broken", function)


def test_a_local_function_cannot_be_a_job() -> None:
    def local() -> None: ...

    with pytest.raises(BadOption, match="local is a local function"):
        define("local", local)


def test_a_static_method_and_a_decorated_function_can_be_jobs() -> None:
    assert define("weekly", Reports.weekly).path == "tests.definitions.test_registry.Reports.weekly"
    definition = define("decorated", decorated)
    assert definition.bind(("42",), {"copies": 2}) == {"invoice_id": "42", "copies": 2}
    assert definition.call({"invoice_id": "42"}) == ("42", "pdf", 1, "")


def test_with_kwargs_any_argument_may_be_sensitive() -> None:
    assert define("anything", anything, sensitive=("password",)).sensitive == ("password",)


def test_declaring_needs_no_settings(settings: Any) -> None:
    settings.WELLOS_JOBS = {"NO_SUCH_KEY": 1}
    assert invoice(sensitive=("token",), queue="not-in-rq-queues").queue == "not-in-rq-queues"


# --- names ----------------------------------------------------------------------------------------


def test_a_registered_job_is_found() -> None:
    definition = invoice()
    assert registry.find("generate-invoice") is None
    register(definition)
    assert registry.get("generate-invoice") is definition
    assert registry.find("generate-invoice") is definition


def test_an_unknown_name_suggests_the_closest() -> None:
    register(invoice())
    with pytest.raises(
        UnknownJob, match="under the name 'generate-invoce': did you mean 'generate-invoice'"
    ):
        registry.get("generate-invoce")
    assert registry.find("generate-invoce") is None


def test_an_unknown_name_without_a_close_one_says_where_to_declare_it() -> None:
    with pytest.raises(UnknownJob, match=r"'§§§'.*declare it with @job in an app's jobs\.py"):
        registry.get("§§§")


def test_a_message_lists_at_most_twelve_names() -> None:
    with registry.isolated():
        for number in range(15):
            register(define(f"job-{number:02}", nothing))
        known = len(registry.all_jobs())
        with pytest.raises(UnknownJob) as refused:
            registry.get("§§§")
    assert f" and {known - 12} more; declare it" in str(refused.value)
    assert str(refused.value).count(", ") == 11


def test_all_jobs_are_sorted_by_name() -> None:
    for name in ("b", "c", "a"):
        register(define(name, nothing))
    names = [definition.name for definition in registry.all_jobs()]
    assert names == sorted(names)
    assert {"a", "b", "c"} <= set(names)


def test_two_functions_under_one_name_are_refused() -> None:
    register(define("same", nothing))
    with pytest.raises(
        DuplicateJobName,
        match=r"'same': tests\.definitions\.test_registry\.nothing and \S+\.anything; rename one",
    ):
        register(define("same", anything))
    assert registry.get("same").function is nothing


def test_a_reload_replaces_the_declaration() -> None:
    register(invoice(max_attempts=3))
    register(invoice(max_attempts=7))
    assert registry.get("generate-invoice").max_attempts == 7


def test_one_function_may_have_two_names() -> None:
    register(define("old-name", nothing))
    register(define("new-name", nothing))
    assert registry.get("old-name").function is registry.get("new-name").function


def test_isolated_undoes_the_declarations_inside() -> None:
    register(define("outside", nothing))
    with pytest.raises(RuntimeError), registry.isolated():  # noqa: PT012
        register(define("inside", nothing))
        register(define("outside", nothing, max_attempts=9))
        raise RuntimeError
    assert registry.find("inside") is None
    assert registry.get("outside").max_attempts == 3


# --- binding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {"invoice_id": "42"}, {"invoice_id": "42"}),
        (("42",), {}, {"invoice_id": "42"}),
        (("42", "html"), {}, {"invoice_id": "42", "format": "html"}),
        (
            ("42",),
            {"format": "html", "copies": 2},
            {"invoice_id": "42", "format": "html", "copies": 2},
        ),
        ((), {"copies": 2, "invoice_id": None}, {"invoice_id": None, "copies": 2}),
    ],
)
def test_arguments_are_bound_by_name_without_defaults(
    args: Any, kwargs: Any, expected: Any
) -> None:
    assert invoice().bind(args, kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing argument 'invoice_id'"),
        ((), {"format": "pdf"}, "missing argument 'invoice_id'"),
        (
            (),
            {"invoice_id": 1, "fromat": 2},
            "unknown argument 'fromat': did you mean 'format'?",
        ),
        ((), {"invoice": 1}, "unknown argument 'invoice': did you mean 'invoice_id'?"),
        (
            (),
            {"invoice_id": 1, "zzz": 2},
            "unknown argument 'zzz'; known arguments are copies, format, invoice_id, token",
        ),
        ((), {"invoice_id": 1, 7: 2}, "unknown argument 7"),
        (("42",), {"invoice_id": "43"}, "argument 'invoice_id' is given twice"),
        (("42", "pdf", 2), {}, "takes 2 arguments by position, 3 were given"),
    ],
)
def test_invalid_arguments(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(f"generate-invoice: {text}")):
        invoice().bind(args, kwargs)


def test_a_secret_never_shows_in_the_error() -> None:
    with pytest.raises(TypeError) as caught:
        invoice(sensitive=("token",)).bind(("s3cret", "s3cret", "s3cret"), {"token": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_function_with_kwargs_takes_any_argument() -> None:
    definition = define("anything", anything)
    assert definition.bind((1,), {"else": 2}) == {"first": 1, "else": 2}
    with pytest.raises(TypeError, match="anything: missing argument 'first'"):
        definition.bind((), {"else": 2})


def test_a_function_without_parameters() -> None:
    definition = define("nothing", nothing)
    assert definition.bind((), {}) == {}
    with pytest.raises(TypeError, match="nothing: unknown argument 'a'$"):
        definition.bind((), {"a": 1})
    with pytest.raises(TypeError, match="nothing: takes 0 arguments by position, 1 were given"):
        definition.bind((1,), {})


def test_binding_leaves_the_callers_dict_alone() -> None:
    given = {"format": "html"}
    bound = invoice().bind(("42",), given)
    bound["copies"] = 3
    assert given == {"format": "html"}


# --- calling --------------------------------------------------------------------------------------


def test_calling_fills_in_the_defaults() -> None:
    assert invoice().call({"invoice_id": "42"}) == ("42", "pdf", 1, "")


def test_an_async_function_is_run_to_its_end() -> None:
    definition = define("wait", wait_for_it)
    assert definition.is_async
    assert definition.call({"value": 1}) == 2


# --- versions -------------------------------------------------------------------------------------


def renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {"invoice_id": data["id"]}


def in_pdf(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "format": "pdf"}


def forgetful(data: dict[str, Any]) -> Any:
    data["format"] = "pdf"


def test_data_pass_all_steps_from_their_version_on() -> None:
    definition = invoice(version=3, upgrade={1: renamed, 2: in_pdf})
    assert definition.upgraded({"id": "7"}, 1) == {"invoice_id": "7", "format": "pdf"}
    assert definition.upgraded({"invoice_id": "7"}, 2) == {"invoice_id": "7", "format": "pdf"}
    assert definition.upgraded({"invoice_id": "7"}, 3) == {"invoice_id": "7"}


def test_a_step_must_return_a_dict() -> None:
    definition = invoice(version=2, upgrade={1: forgetful})
    with pytest.raises(PayloadError, match=r"upgrade\[1\] returned NoneType.*version 2 as a dict"):
        definition.upgraded({}, 1)


def test_the_digest_tells_what_a_process_knows() -> None:
    register(invoice())
    before = registry.digest()
    register(invoice(queue="reports", timeout=7))
    assert registry.digest() == before
    register(invoice(version=2, upgrade={1: renamed}))
    newer = registry.digest()
    register(define("nothing", nothing))
    assert len({before, newer, registry.digest()}) == 3
    assert registry.versions()["generate-invoice"] == 2
