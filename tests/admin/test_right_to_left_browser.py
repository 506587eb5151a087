"""In a language that is written from right to left, data and drawings keep their direction."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from wellos_jobs import Flow
from wellos_jobs.models import JobRecord

from ..jobs import noop
from ..support.browser import login

pytestmark = pytest.mark.browser

OUTSIDE = """
    boxes => boxes.filter(box => {
        const frame = box.querySelector('rect').getBoundingClientRect();
        return [...box.querySelectorAll('text')].some(text => {
            const place = text.getBoundingClientRect();
            return place.left < frame.left || place.right > frame.right;
        });
    }).length
"""
"""How many boxes of a flow have a text that is not inside them."""

FIRST_LEFT_OF_LAST = """
    part => {
        const node = part.firstChild;
        const place = at => {
            const range = document.createRange();
            range.setStart(node, at);
            range.setEnd(node, at + 1);
            return range.getBoundingClientRect();
        };
        const colon = node.data.indexOf(':');
        return place(node.data.indexOf('"')).left < place(colon).left;
    }
"""


@pytest.fixture(params=["ar", "he"])
def root_page(page: Any, request: pytest.FixtureRequest, settings: Any) -> Any:
    settings.LANGUAGE_CODE = request.param
    login(page, User.objects.create_superuser("root"))
    return page


def test_texts_of_a_flow_are_inside_their_boxes(root_page: Any) -> None:
    flow = Flow(noop.with_data(), children=[noop.with_data() for _ in range(3)]).enqueue()
    address = reverse("admin:wellos_jobs_jobrecord_change", args=[flow.handles[0].id])
    root_page.goto(address)

    assert root_page.locator("html").get_attribute("dir") == "rtl"
    boxes = root_page.locator("svg .wj-node")
    boxes.first.wait_for()
    assert boxes.count() == 4
    assert boxes.evaluate_all(OUTSIDE) == 0


def test_braces_of_data_are_not_mirrored(root_page: Any) -> None:
    record = JobRecord.objects.create(
        name="test-noop",
        queue="default",
        state="completed",
        data={"amount": 12, "lines": [1]},
        created_at=timezone.now(),
        finished_at=timezone.now(),
    )
    root_page.goto(reverse("admin:wellos_jobs_jobrecord_change", args=[record.pk]))

    data = root_page.locator("pre.wj-text", has_text="amount").first
    data.wait_for()
    assert data.evaluate("part => getComputedStyle(part).direction") == "ltr"
    assert data.evaluate(FIRST_LEFT_OF_LAST)
