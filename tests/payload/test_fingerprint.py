"""Fingerprints: equal for failures with the same cause, different for others."""

from __future__ import annotations

import pytest

from wellos_jobs.payload.failures import (
    _LOCATION,
    _PLACEHOLDERS,
    MAX_FINGERPRINTED,
    fingerprint,
)

TRACE = """Traceback (most recent call last):
  File "/app/shop/jobs.py", line 12, in charge
    pay(order)
  File "/app/shop/payments.py", line {line}, in pay
    raise PaymentError(order)
shop.PaymentError: {message}
"""


def made(
    message: str = "order 42 failed",
    *,
    line: int = 30,
    name: str = "charge",
    error: str = "PaymentError",
) -> str:
    return fingerprint(name, error, message, TRACE.format(line=line, message=message))


def test_it_is_16_hex_digits_and_the_same_on_every_machine() -> None:
    assert fingerprint("charge", "ValueError", "no", "") == fingerprint(
        "charge", "ValueError", "no", ""
    )
    assert len(made()) == 16 and int(made(), 16) >= 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 42 failed", "order 43 failed"),
        ("took 1.5 seconds", "took 20.25 seconds"),
        (
            "no row 0190a6b2-7c1d-7e3f-8a5b-0123456789ab",
            "no row 5eae9e1a-68a3-4b55-996b-0e6b1a9de4aa",
        ),
        ("object at 0x7f12ab", "object at 0x55d0ff"),
        ("commit deadbeef01 is gone", "commit 0123456789abcdef is gone"),
        ("no field 'name'", "no field 'email'"),
        ('unknown key "a"', 'unknown key "b"'),
        ("550 no such user ann@acme.example", "550 no such user bob.b+x@globex.example"),
        ("refused\nrequest id 1", "refused\nrequest id 2\nmore"),
        ("  padded", "padded"),
    ],
)
def test_ids_numbers_and_quoted_values_do_not_count(one: str, other: str) -> None:
    assert made(one) == made(other)


def test_line_numbers_do_not_count() -> None:
    assert made(line=30) == made(line=31)


def test_failures_with_other_causes_differ() -> None:
    elsewhere = TRACE.replace("in pay", "in refund").format(line=30, message="order 42 failed")
    assert (
        len(
            {
                made(),
                made("order 42 was refused"),
                made(name="refund"),
                made(error="ValueError"),
                fingerprint("charge", "PaymentError", "order 42 failed", elsewhere),
                fingerprint("charge", "PaymentError", "order 42 failed", ""),
            }
        )
        == 6
    )


ODD_TEXTS = ["", "\n", "'unbalanced", "0x", "x" * 100_000, "'" * 10_000, '"' * 9_999, "a@" * 50_000]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: f"{text[:3]!r} x {len(text)}")
def test_odd_texts_have_a_fingerprint(text: str) -> None:
    assert len(fingerprint(text[:100], text[:100], text, text)) == 16


def test_only_the_beginning_of_a_long_line_counts() -> None:
    line = "x" * MAX_FINGERPRINTED
    assert made(f"{line} and refused") == made(f"{line} and lost")
    assert made(f"{line[1:]}a") != made(f"{line[1:]}b")


@pytest.mark.parametrize("text", ["x", "7", "a1", "a.", "'\"", "@", "a@", "-", 'File "'])
def test_the_patterns_take_linear_time(text: str) -> None:
    """A quadratic pattern would not get through a million characters before the test times out."""
    for pattern in (_LOCATION, *(pattern for pattern, _ in _PLACEHOLDERS)):
        pattern.sub("", text * (1_000_000 // len(text)))


def test_a_plain_word_of_hex_letters_is_a_word() -> None:
    assert made("decade failed") != made("facade failed")
