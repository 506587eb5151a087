"""The sample data. Loading it again restores it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone

from example_project.accounts.models import AccessToken, User, digest
from example_project.invoices.billing import bill
from example_project.invoices.models import Invoice, InvoiceLine
from example_project.organizations.models import Organization
from example_project.timesheets.models import Project, TimeEntry

MONTH = (date(2026, 10, 1), date(2026, 10, 31))
ADMIN = "admin"
EXPIRED_TOKENS, VALID_TOKENS = 6, 4
OVERDUE_USERS, RECENT_USERS = 3, 2
DAYS_OF_TRIAL_LEFT = (10, 20, 5, -2)
"""For the first user of each organization. A trial that has ended gets no warning."""

# slug, name, address, time zone, currency, tax in percent
_ORGANIZATIONS = [
    (
        "acme",
        "Acme Architects",
        "350 Fifth Avenue\nNew York, NY 10118",
        "America/New_York",
        "USD",
        "8.88",
    ),
    (
        "fjord",
        "Fjord & Söner AB",
        "Strandvägen 7\n114 56 Stockholm",
        "Europe/Stockholm",
        "SEK",
        "25",
    ),
    ("kiwi", "Kiwi Care Ltd", "1 Queen Street\nAuckland 1010", "Pacific/Auckland", "NZD", "15"),
    (
        "lodz",
        "Łódź Studio sp. z o.o.",
        "ul. Piotrkowska 12\n90-001 Łódź",
        "Europe/Warsaw",
        "EUR",
        "23",
    ),
]
# project, customer, address, hourly rate, what has become of October's invoice
_PROJECTS = [
    ("Website", "Žofie Nováková & Co", "Nerudova 5\n118 00 Praha", "85.00", Invoice.Status.ISSUED),
    (
        "Warehouse",
        "O'Brien Logistics <Dublin>",
        "12 Dock Road\nDublin 1",
        "110.50",
        Invoice.Status.PAID,
    ),
    (
        "Audit",
        "Société Générale d'Études",
        "8 rue de la Paix\n75002 Paris",
        "142.00",
        Invoice.Status.DRAFT,
    ),
]
_WORK = ["Planning", "Development", "Review", "Workshop"]
_PEOPLE = [("Ada", "Berg"), ("Noah", "Quist")]


@dataclass
class Sample:
    """The objects used by the scenario."""

    admin: User
    users: list[User] = field(default_factory=list)
    on_trial: list[User] = field(default_factory=list)
    organizations: list[Organization] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    broken_invoice: Invoice | None = None
    import_into: Project | None = None

    def __str__(self) -> str:
        return (
            f"{len(self.organizations)} organizations, {len(self.users)} users, "
            f"{TimeEntry.objects.count()} time entries, {len(self.invoices) + 1} invoices, "
            f"{EXPIRED_TOKENS} expired tokens, {OVERDUE_USERS} users overdue"
        )


@transaction.atomic
def load(admin_password: str, people_password: str) -> Sample:
    """Load or restore the sample data."""
    now = timezone.now()
    hashed = make_password(people_password)
    sample = Sample(admin=_admin(admin_password))
    for place, (slug, name, address, zone, currency, tax) in enumerate(_ORGANIZATIONS):
        organization, _ = Organization.objects.update_or_create(
            slug=slug,
            defaults={
                "name": name,
                "address": address,
                "email": f"office@{slug}.example",
                "time_zone": zone,
                "currency": currency,
            },
        )
        sample.organizations.append(organization)
        _people(sample, organization, now + timedelta(days=DAYS_OF_TRIAL_LEFT[place]), hashed)
        _projects(sample, organization, place, Decimal(tax))
    _to_clean_up(sample, now)
    sample.broken_invoice = _broken_invoice(sample)
    sample.import_into = Project.objects.get(organization="acme", name="Website")
    sample.import_into.entries.exclude(external_id=None).delete()
    return sample


def _admin(password: str) -> User:
    values = {
        "email": "admin@wellos.example",
        "first_name": "Robin",
        "last_name": "Admin",
        "is_staff": True,
        "is_superuser": True,
        "password": make_password(password),
    }
    return _person(ADMIN, values)


def _people(
    sample: Sample, organization: Organization, trial_ends_at: datetime, password: str
) -> None:
    for place, (first, last) in enumerate(_PEOPLE):
        name = f"{first.lower()}.{organization.slug}"
        values = {
            "email": f"{name}@wellos.example",
            "first_name": first,
            "last_name": last,
            "organization": organization,
            "trial_ends_at": trial_ends_at if place == 0 else None,
            "password": password,
        }
        user = _person(name, values)
        sample.users.append(user)
        if place == 0:
            sample.on_trial.append(user)


def _person(name: str, values: dict[str, Any]) -> User:
    """Create or change a user without signals; the scenario fires the triggers later."""
    people = User.objects.filter(username=name)
    if not people.update(**values):
        User.objects.bulk_create([User(username=name, **values)])
    return people.get()


def _projects(sample: Sample, organization: Organization, place: int, tax: Decimal) -> None:
    """Create the projects, with a month of time entries and an invoice each."""
    workers = sample.users[-len(_PEOPLE) :]
    for number, (name, customer, address, rate, status) in enumerate(_PROJECTS, start=1):
        project, created = Project.objects.update_or_create(
            organization=organization,
            name=name,
            defaults={
                "customer_name": customer,
                "customer_address": address,
                "customer_email": f"{name.lower()}@customer.example",
                "hourly_rate": Decimal(rate),
            },
        )
        invoice_number = f"{organization.slug.upper()}-2026-{number:04}"
        if created:
            TimeEntry.objects.bulk_create(
                _month_of_work(project, workers, seed=place * 10 + number)
            )
            bill(project, invoice_number, *MONTH, tax_rate=tax)
        Invoice.objects.filter(organization=organization, number=invoice_number).update(
            status=status
        )
        sample.invoices.append(
            Invoice.objects.get(organization=organization, number=invoice_number)
        )


def _month_of_work(project: Project, workers: list[User], seed: int) -> list[TimeEntry]:
    days = [MONTH[0] + timedelta(days=day) for day in range(31)]
    return [
        TimeEntry(
            project=project,
            user=workers[day.day % len(workers)],
            description=_WORK[(day.day + seed) % len(_WORK)],
            day=day,
            minutes=45 + (day.day * 37 + seed * 53) % 400,
            billable=day.day % 9 != 0,
        )
        for day in days
        if day.weekday() < 5
    ]


def _to_clean_up(sample: Sample, now: datetime) -> None:
    for place in range(EXPIRED_TOKENS + VALID_TOKENS):
        days = -1 - place if place < EXPIRED_TOKENS else 30
        AccessToken.objects.update_or_create(
            digest=digest(f"sample token {place}"),
            defaults={
                "user": sample.users[place % len(sample.users)],
                "name": f"token {place + 1}",
                "expires_at": now + timedelta(days=days),
            },
        )
    for place in range(OVERDUE_USERS + RECENT_USERS):
        joined = now - timedelta(days=30 if place < OVERDUE_USERS else 1)
        name = f"pending.{place + 1}"
        _person(
            name, {"email": f"{name}@wellos.example", "is_pending": True, "date_joined": joined}
        )


def _broken_invoice(sample: Sample) -> Invoice:
    """Return an invoice without lines, whose PDF cannot be made until ``fix`` adds one."""
    organization = sample.organizations[0]
    invoice, _ = Invoice.objects.update_or_create(
        organization=organization,
        number=f"{organization.slug.upper()}-2026-0099",
        defaults={
            "customer_name": "Initech",
            "customer_address": "4120 Freidrich Lane\nAustin, TX 78744",
            "issued_on": MONTH[1],
            "due_on": MONTH[1] + timedelta(days=30),
            "currency": organization.currency,
            "document": "",
        },
    )
    invoice.lines.all().delete()
    return invoice


def fix(invoice: Invoice) -> None:
    """Add the missing line to the broken invoice."""
    InvoiceLine.objects.create(
        invoice=invoice,
        position=1,
        description="Consulting",
        hours=Decimal("8.00"),
        rate=Decimal("120.00"),
    )
