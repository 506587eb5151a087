"""The page about the example has every job, with its queue and its file."""

from __future__ import annotations

import inspect
import re

from example_project.keyring import PROJECT
from wellos_jobs.definitions import registry

OF_THE_PACKAGE_ITSELF = {
    "wellos-bulk-operation",
    "wellos-notify-admins",
    "wellos-notify-admins-digest",
}
NOT_USED_HERE = {"cleanup-old-jobs", "cleanup-orphaned-files"}


def test_the_docs_list_every_job_with_queue_and_module() -> None:
    text = (
        (PROJECT / "docs" / "example.md").read_text().split("## All its jobs")[1].split("\n## ")[0]
    )
    named, queue = {}, ""
    for cells in re.findall(r"^\| ?(?:`(.*?)`)? \| (`.*?`) \| `(.*?)` \|$", text, re.M):
        queue = cells[0] or queue
        named |= dict.fromkeys(re.findall(r"`(.*?)`", cells[1]), (queue, cells[2]))
    declared = {found.name: found for found in registry.all_jobs()}
    assert set(named) == set(declared) - OF_THE_PACKAGE_ITSELF - NOT_USED_HERE
    for name, (queue, place) in named.items():
        module = inspect.getmodule(declared[name].function)
        where = module.__name__ if place.startswith("wellos_jobs") else f"example_project/{place}"
        assert declared[name].queue == queue, name
        assert where in (module.__name__, module.__name__.replace(".", "/") + ".py"), name
