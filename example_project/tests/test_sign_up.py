"""Signing up makes an organization of one's own, and never lets anybody into one that is here."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from example_project.accounts.models import User
from example_project.organizations.models import Organization
from wellos_jobs.models import JobRecord, OrganizationReportSchedule

FORM = {
    "username": "nils",
    "email": "nils@new.example",
    "organization_name": "Nils & Daughters",
    "password1": "correct horse battery",
    "password2": "correct horse battery",
}


def test_person_organization_schedule_and_mails_come_together(db: None) -> None:
    assert Client().post("/sign-up", FORM).url == "/login"
    nils = User.objects.get()
    assert (nils.organization_id, nils.is_pending, nils.is_staff) == ("nils-daughters", True, False)
    assert OrganizationReportSchedule.objects.get().recipients == ["nils@new.example"]
    jobs = JobRecord.objects.filter(organization_id="nils-daughters").values_list("name", flat=True)
    assert sorted(jobs) == ["send-welcome-email", "trial-expiration-warning"]


@pytest.mark.parametrize(
    ("name", "fault"), [("ACME", "ask somebody there to add you"), ("株式会社", "Use some letters from a to z.")]
)
def test_a_name_that_is_taken_or_has_no_letters_is_refused(acme: Organization, name: str, fault: str) -> None:
    page = Client().post("/sign-up", {**FORM, "organization_name": name}).content.decode()
    assert fault in re.search(r'<ul class="errorlist".*?</ul>', page, re.DOTALL)[0]
    assert not User.objects.exists()


def test_no_organization_can_be_chosen(acme: Organization) -> None:
    Client().post("/sign-up", {**FORM, "organization": "acme"})
    assert User.objects.get().organization_id == "nils-daughters"
