"""Signing up creates a new organization and gives no access to existing ones."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.test import Client
from django.utils import timezone
from django.utils.http import urlsafe_base64_encode

from example_project.accounts import confirmation
from example_project.accounts.models import PENDING_FOR, User
from example_project.organizations.models import Organization
from wellos_jobs.contrib.cleanup import cleanup_pending_users
from wellos_jobs.contrib.emails import welcome_job
from wellos_jobs.models import JobRecord, OrganizationReportSchedule

from .conftest import logged_in

FORM = {
    "username": "nils",
    "email": "nils@new.example",
    "organization_name": "Nils & Daughters",
    "password1": "correct horse battery",
    "password2": "correct horse battery",
}


def test_sign_up_creates_user_organization_schedule_and_emails(db: None) -> None:
    assert Client().post("/sign-up", FORM).url == "/login"
    nils = User.objects.get()
    assert (nils.organization_id, nils.is_pending, nils.is_staff) == ("nils-daughters", True, False)
    assert OrganizationReportSchedule.objects.get().recipients == ["nils@new.example"]
    jobs = JobRecord.objects.filter(organization_id="nils-daughters").values_list("name", flat=True)
    assert sorted(jobs) == ["send-welcome-email", "trial-expiration-warning"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ACME", "ask one of its members to add you"),
        ("株式会社", "Use at least one letter from a to z."),
    ],
)
def test_invalid_organization_names_are_refused(acme: Organization, name: str, fault: str) -> None:
    page = Client().post("/sign-up", {**FORM, "organization_name": name}).content.decode()
    assert fault in re.search(r'<ul class="errorlist".*?</ul>', page, re.DOTALL)[0]
    assert not User.objects.exists()


def test_no_organization_can_be_chosen(acme: Organization) -> None:
    Client().post("/sign-up", {**FORM, "organization": "acme"})
    assert User.objects.get().organization_id == "nils-daughters"


# --- confirming the address -----------------------------------------------------------------------


def sign_up() -> tuple[User, str]:
    """Sign up and send the welcome email; return the user and the path of its link."""
    Client().post("/sign-up", FORM)
    data = JobRecord.objects.get(name="send-welcome-email").data
    welcome_job(**data)
    message = mail.outbox[-1]
    link = re.search(r"http://\S+/confirm/\S+", message.body)[0]
    unsigned = link.rsplit(":", 2)[0]  # without the second in which it was signed
    assert f"{unsigned}:" in message.alternatives[0][0]
    assert "you log in as nils" in message.body
    assert urlsplit(link).path.rpartition("/")[2] not in json.dumps(data)
    return User.objects.get(username="nils"), urlsplit(link).path


def make_overdue() -> None:
    User.objects.update(date_joined=timezone.now() - PENDING_FOR - timedelta(minutes=1))


def test_the_link_in_the_welcome_mail_confirms_the_address(db: None) -> None:
    nils, path = sign_up()
    browser = Client()
    assert "Is nils@new.example your address?" in browser.get(path).content.decode()
    nils.refresh_from_db()
    assert nils.is_pending, "to look at the link is not to confirm"
    assert "nils@new.example is confirmed." in browser.post(path, follow=True).content.decode()
    nils.refresh_from_db()
    assert not nils.is_pending
    make_overdue()
    cleanup_pending_users()
    assert User.objects.filter(pk=nils.pk).exists()
    assert "nils@new.example is confirmed." in browser.get(path).content.decode()


def test_unconfirmed_users_are_deleted(db: None) -> None:
    nils, path = sign_up()
    make_overdue()
    assert cleanup_pending_users() == 1
    assert not User.objects.filter(pk=nils.pk).exists()
    assert "This link has expired" in Client().post(path).content.decode()


def test_expired_forged_and_outdated_links_are_refused(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nils, path = sign_up()
    for wrong in (path[:-1], "/confirm/nonsense"):
        assert "This link has expired" in Client().post(wrong).content.decode()
    User.objects.filter(pk=nils.pk).update(email="other@new.example")
    assert "This link has expired" in Client().post(path).content.decode()
    User.objects.filter(pk=nils.pk).update(email="nils@new.example")
    with monkeypatch.context() as later:
        later.setattr(confirmation, "PENDING_FOR", timedelta(seconds=-1))
        assert "This link has expired" in Client().post(path).content.decode()
    nils.refresh_from_db()
    assert nils.is_pending
    assert "is confirmed" in Client().post(path, follow=True).content.decode()


def test_confirming_needs_the_csrf_token(db: None) -> None:
    nils, path = sign_up()
    assert Client(enforce_csrf_checks=True).post(path).status_code == 403


def test_a_password_reset_confirms_the_address(db: None) -> None:
    nils, _path = sign_up()
    browser = Client()
    browser.post("/password-reset", {"email": nils.email})
    JobRecord.objects.get(name="send-password-reset")
    token = default_token_generator.make_token(nils)
    uid = urlsafe_base64_encode(str(nils.pk).encode())
    form = browser.get(f"/password-reset/{uid}/{token}", follow=True)
    new = {"new_password1": "correct horse stable", "new_password2": "correct horse stable"}
    assert (
        "Password changed"
        in browser.post(form.request["PATH_INFO"], new, follow=True).content.decode()
    )
    nils.refresh_from_db()
    assert not nils.is_pending


def test_unconfirmed_users_can_request_the_email_again(db: None) -> None:
    nils, _path = sign_up()
    browser = logged_in(nils)
    assert "Please confirm nils@new.example" in browser.get("/", follow=True).content.decode()
    assert "is on its way to" in browser.post("/confirm/again", follow=True).content.decode()
    assert "was already sent today" in browser.post("/confirm/again", follow=True).content.decode()
    assert (
        JobRecord.objects.filter(
            name="send-welcome-email", organization_id="nils-daughters"
        ).count()
        == 2
    )
    nils.confirm()
    assert "Please confirm" not in browser.get("/", follow=True).content.decode()
    browser.post("/confirm/again")
    assert JobRecord.objects.filter(name="send-welcome-email").count() == 2
    assert Client().post("/confirm/again").url == "/login?next=/confirm/again"


def test_users_created_by_others_get_no_link(acme: Organization) -> None:
    ada = User.objects.create_user("ada", "ada@wellos.example", organization=acme)
    welcome_job(**JobRecord.objects.get(name="send-welcome-email").data)
    assert ada.username in mail.outbox[-1].body
    assert "/confirm/" not in mail.outbox[-1].body
