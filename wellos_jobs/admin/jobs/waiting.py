"""What an open job waits for, in words, also where Redis cannot tell."""

from __future__ import annotations

from django.utils.translation import gettext

from ... import broker, status
from ...enqueueing.handle import JobHandle
from ...errors import JobNotFound
from ...models import JobRecord
from ...states import FINAL_STATES, JobState


def why(job: JobRecord) -> str:
    """Return in words what an open job waits for, or why that cannot be told; nothing for one that has ended."""
    if JobState(job.state) in FINAL_STATES or job.is_foreign:
        return ""
    try:
        return JobHandle(job.pk, job.queue, job._state.db or "default").explain()
    except broker.Unavailable as error:
        return gettext(
            "Redis cannot be reached, so it cannot be told what the job waits for: %(error)s"
        ) % {"error": error}
    except (broker.Error, ValueError, JobNotFound) as error:
        return gettext("It cannot be told what the job waits for: %(error)s") % {"error": error}


def problem(job: JobRecord) -> str:
    """Return why Redis does not tell the state of an open job; nothing if it does."""
    return (
        ""
        if JobState(job.state) in FINAL_STATES
        else str(status.job_status(job).get("problem", ""))
    )
