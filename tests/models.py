"""Models of the test project that point to jobs, as those of a real project do."""

from __future__ import annotations

from django.db import models


class Invoice(models.Model):
    """Holds the job that made it: the job cannot be deleted."""

    job = models.ForeignKey("wellos_jobs.JobRecord", on_delete=models.PROTECT, related_name="+")


class Incident(models.Model):
    """Holds a dead letter, and so the job that the letter is deleted with."""

    letter = models.ForeignKey(
        "wellos_jobs.DeadLetter", on_delete=models.RESTRICT, related_name="+"
    )


class Archive(models.Model):
    """Holds a job by a constraint that only the database knows."""

    job = models.ForeignKey("wellos_jobs.JobRecord", on_delete=models.DO_NOTHING, related_name="+")


class Reminder(models.Model):
    """Holds a schedule."""

    schedule = models.ForeignKey("wellos_jobs.Schedule", on_delete=models.PROTECT, related_name="+")
