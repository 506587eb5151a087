"""Two versions of the code of the same jobs, for processes with ``WELLOS_TEST_CODE`` old or new.

Unknown to the old code are a job, an argument of another one, and the second version of a third.
"""

from __future__ import annotations

from typing import Any

from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define

OLD = {"known": {"number": 1}, "greeting": {"name": "Ada"}, "letter": {"to": "ada@example.org"}}
"""The data of jobs that both know."""
NEW: dict[str, dict[str, Any]] = {
    "newcomer": {"number": 1},
    "greeting": {"name": "Ada", "tone": "kind"},
    "letter": {"people": ["ada@example.org"]},
}


def known(number: int) -> int:
    return number


def newcomer(number: int) -> int:
    return number


def greeting(name: str) -> str:
    return f"Hello {name}"


def greeting_in_tone(name: str, tone: str = "plain") -> str:
    return f"Hello {name}, {tone}"


def letter(to: str) -> list[str]:
    return [to]


def letter_to_people(people: list[str]) -> list[str]:
    return people


def to_people(data: dict[str, Any]) -> dict[str, Any]:
    return {"people": [data["to"]]}


def declare(code: str) -> None:
    """Declare the jobs as the old or the new code does."""
    definitions = [define("known", known)]
    if code == "new":
        definitions += [
            define("newcomer", newcomer),
            define("greeting", greeting_in_tone),
            define("letter", letter_to_people, version=2, upgrade={1: to_people}),
        ]
    else:
        definitions += [define("greeting", greeting), define("letter", letter)]
    registry._jobs.update({definition.name: definition for definition in definitions})
