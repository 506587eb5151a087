"""Two organizations, their users, and a logged-in client."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from example_project.accounts.models import User
from example_project.invoices.models import Invoice, InvoiceLine
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project
from wellos_jobs.models import JobRecord


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, settings: Any) -> None:
    """A temporary folder for files, and a fast password hasher."""
    settings.MEDIA_ROOT = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(
        slug="acme", name="Acme", email="office@acme.example", time_zone="Asia/Tokyo"
    )


@pytest.fixture
def fjord(db: None) -> Organization:
    return Organization.objects.create(slug="fjord", name="Fjord", email="office@fjord.example")


@pytest.fixture
def ada(acme: Organization) -> User:
    return member("ada", acme)


@pytest.fixture
def frida(fjord: Organization) -> User:
    return member("frida", fjord)


@pytest.fixture
def client(ada: User) -> Client:
    """A client logged in as Ada of Acme."""
    return logged_in(ada)


@pytest.fixture
def website(acme: Organization) -> Project:
    return Project.objects.create(
        organization=acme,
        name="Website",
        customer_name="Initech",
        customer_email="pay@initech.example",
        hourly_rate=90,
    )


MakeInvoice = Callable[..., Invoice]


@pytest.fixture
def make_invoice() -> MakeInvoice:
    """``make_invoice(organization, number, **fields)``: an invoice of 8 hours at 100.00."""

    def make(organization: Organization, number: str, **fields: Any) -> Invoice:
        values = {"customer_name": "Initech", "customer_email": "pay@initech.example", **fields}
        dates = {"issued_on": "2026-10-31", "due_on": "2026-11-30"}
        invoice = Invoice.objects.create(
            organization=organization, number=number, **dates, **values
        )
        InvoiceLine.objects.create(
            invoice=invoice, position=1, description="Work", hours=8, rate=Decimal(100)
        )
        return invoice

    return make


def member(name: str, organization: Organization) -> User:
    """Create a user without the welcome email."""
    user = User.objects.create_user(name, f"{name}@wellos.example", organization=organization)
    JobRecord.objects.filter(data__to=user.email).delete()
    return user


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
