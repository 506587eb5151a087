"""Job ids: the shape of UUIDs, their order, and the ids that can be computed again."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from wellos_jobs.definitions import ids

GIVEN = uuid.UUID("0190a6b2-7c1d-7e3f-8a5b-0123456789ab")


def test_a_new_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_new_ids_differ_and_sort_by_time() -> None:
    made = [ids.new_id() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)


def test_all_random_bits_vary() -> None:
    ones, zeros = 0, (1 << 128) - 1
    for _ in range(200):
        made = ids.new_id().int
        ones, zeros = ones | made, zeros & made
    fixed = ((1 << 48) - 1 << 80) | (0xF << 76) | (0x3 << 62)
    assert (ones & ~zeros) | fixed == (1 << 128) - 1


def test_a_derived_id_is_the_same_everywhere_and_has_its_own_version() -> None:
    made = ids.derived_id("rq", "some-job")
    assert made == uuid.UUID("880d7d5f-9984-857c-bdce-fb1ef33b77ed")
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_mariadb_accepts_every_derived_id() -> None:
    assert all(ids.derived_id(str(number)).bytes[8] & 0xE0 == 0xA0 for number in range(1_000))


def test_parts_of_a_derived_id_cannot_run_into_each_other() -> None:
    assert ids.derived_id("a", "bc") != ids.derived_id("ab", "c")
    assert ids.derived_id("a") != ids.derived_id("a", "")


@pytest.mark.parametrize(
    "text", [GIVEN, str(GIVEN), str(GIVEN).upper(), GIVEN.hex, f"urn:uuid:{GIVEN}"]
)
def test_valid_ids(text: object) -> None:
    assert ids.parse_id(text) == GIVEN


@pytest.mark.parametrize("text", ["", "42", "not-an-id", str(GIVEN)[:-1], f"{GIVEN}0", None, 42])
def test_invalid_ids_are_none(text: object) -> None:
    assert ids.parse_id(text) is None


def test_a_chosen_id_that_is_a_uuid_stays_and_other_text_gets_a_derived_one() -> None:
    assert ids.job_id(GIVEN) == ids.job_id(str(GIVEN)) == GIVEN
    assert ids.job_id("invoice-42") == ids.derived_id("id", "invoice-42")
    assert ids.job_id("invoice-42") != ids.job_id("invoice-43")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_chosen_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="id is empty: give a UUID or a text, or leave it out"):
        ids.job_id(text)


def test_the_time_in_an_id() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= ids.moment_of(ids.new_id()) <= datetime.now(UTC)
    due = datetime(2026, 3, 29, 1, 0, 0, 250_000, tzinfo=UTC)
    assert ids.moment_of(ids.tick_id("default:1:nightly", due)) == due
    assert ids.moment_of(ids.derived_id("id", "invoice-42")) is None
    assert ids.moment_of(uuid.UUID("ffffffff-ffff-7fff-8fff-ffffffffffff")) is None
