"""The operator verbs: one table that buttons, bulk actions, permissions and the audit log read.

Pure data, without the functions that carry a verb out: those are in ``wellos_jobs.operations``
under ``Verb.operation`` and ``Verb.many``. What the audit log stores is ``states.AuditAction``,
because ``monitoring`` and ``maintenance`` read it too and must not import ``operations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..states import AuditAction

Text = str | Promise


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Something an operator can do to one kind of target."""

    name: str
    target: str
    """The kind of target, as ``AuditEntry.target_type`` stores it."""
    permission: str
    """A permission of this app. It may hold ``{model}``, the model of the admin's list."""
    action: AuditAction
    label: Text
    """The text of its button."""
    is_destructive: bool = False
    """Whether its button is marked: the change cannot be undone, or stops work."""
    operation: str = ""
    """The function in ``wellos_jobs.operations``; by default the verb's name."""

    many: str = ""
    """The function for many rows, '' if there is none."""
    list_action: str = ""
    """The name of the action in the admin's list, which bulk operations store; '' if none."""
    title: Text = ""
    """The title of that action."""

    def permission_on(self, model: str = "") -> str:
        """Return the permission with its app label, as ``has_perm`` expects it."""
        return f"wellos_jobs.{self.permission.format(model=model)}"

    @property
    def function(self) -> str:
        """The name of the function that does it to one target."""
        return self.operation or self.name


JOB_VERBS = (
    Verb(
        name="retry",
        target="job",
        permission="retry_job",
        action=AuditAction.RETRIED,
        label=_("Retry"),
        many="retry_many",
        list_action="retry_jobs",
        title=_("Retry jobs"),
    ),
    Verb(
        name="cancel",
        target="job",
        permission="cancel_job",
        action=AuditAction.CANCELED,
        label=_("Cancel"),
        is_destructive=True,
        many="cancel_many",
        list_action="cancel_jobs",
        title=_("Cancel jobs"),
    ),
    Verb(
        name="promote",
        target="job",
        permission="promote_job",
        action=AuditAction.PROMOTED,
        label=_("Run now"),
        many="promote_many",
        list_action="promote_jobs",
        title=_("Run delayed jobs now"),
    ),
    Verb(
        name="change_priority",
        target="job",
        permission="change_job_priority",
        action=AuditAction.CHANGED_PRIORITY,
        label=_("Change priority"),
        many="change_priority_many",
        list_action="change_priority",
        title=_("Change the priority of jobs"),
    ),
    Verb(
        name="move",
        target="job",
        permission="move_job",
        action=AuditAction.MOVED,
        label=_("Move"),
        many="move_many",
        list_action="move_jobs",
        title=_("Move jobs to another queue"),
    ),
    Verb(
        name="enqueue_copy",
        target="job",
        permission="enqueue_job",
        action=AuditAction.ENQUEUED,
        label=_("Enqueue"),
    ),
)

DEAD_LETTER_VERBS = (
    Verb(
        name="replay",
        target="dead_letter",
        permission="replay_deadletter",
        action=AuditAction.REPLAYED,
        label=_("Replay"),
        many="replay_many",
        list_action="replay_dead_letters",
        title=_("Replay dead letters"),
    ),
    Verb(
        name="replay_edited",
        target="dead_letter",
        permission="edit_deadletter",
        action=AuditAction.EDITED,
        label=_("Edit data and replay"),
    ),
    Verb(
        name="assign",
        target="dead_letter",
        permission="assign_deadletter",
        action=AuditAction.ASSIGNED,
        label=_("Assign"),
        many="assign_many",
        list_action="assign_dead_letters",
        title=_("Assign dead letters"),
    ),
    Verb(
        name="discard",
        target="dead_letter",
        permission="discard_deadletter",
        action=AuditAction.DISCARDED,
        label=_("Discard"),
        is_destructive=True,
        many="discard_many",
        list_action="discard_dead_letters",
        title=_("Discard dead letters"),
    ),
    Verb(
        name="send_canary",
        target="fault",
        permission="replay_deadletter",
        action=AuditAction.SENT_CANARY,
        label=_("Send a canary"),
    ),
)

GROUP_VERBS = (
    Verb(
        name="retry_flow",
        target="flow",
        permission="retry_flow",
        action=AuditAction.RETRIED,
        label=_("Retry failed jobs"),
    ),
    Verb(
        name="cancel_flow",
        target="flow",
        permission="cancel_flow",
        action=AuditAction.CANCELED,
        label=_("Cancel"),
        is_destructive=True,
    ),
    Verb(
        name="retry_batch",
        target="batch",
        permission="retry_batch",
        action=AuditAction.RETRIED,
        label=_("Retry"),
        many="retry_batches",
        list_action="retry_batches",
        title=_("Retry failed jobs"),
    ),
    Verb(
        name="cancel_batch",
        target="batch",
        permission="cancel_batch",
        action=AuditAction.CANCELED,
        label=_("Cancel"),
        is_destructive=True,
        many="cancel_batches",
        list_action="cancel_batches",
        title=_("Cancel batches"),
    ),
    Verb(
        name="stop_bulk_operation",
        target="bulk",
        permission="cancel_job",
        action=AuditAction.STOPPED,
        label=_("Stop"),
        many="stop_bulk_operations",
        list_action="stop_bulk_operation",
        title=_("Stop"),
    ),
)

QUEUE_VERBS = (
    Verb(
        name="pause_queue",
        target="queue",
        permission="pause_queue",
        action=AuditAction.PAUSED,
        label=_("Pause"),
    ),
    Verb(
        name="resume_queue",
        target="queue",
        permission="pause_queue",
        action=AuditAction.RESUMED,
        label=_("Resume"),
    ),
    Verb(
        name="empty_queue",
        target="queue",
        permission="empty_queue",
        action=AuditAction.EMPTIED,
        label=pgettext_lazy("queue", "Empty"),
        is_destructive=True,
    ),
    Verb(
        name="set_limit",
        target="limit",
        permission="change_limit",
        action=AuditAction.SET_LIMIT,
        label=_("Change"),
    ),
    Verb(
        name="reset_breaker",
        target="breaker",
        permission="reset_breaker",
        action=AuditAction.RESET_BREAKER,
        label=_("Reset"),
    ),
    Verb(
        name="trip_breaker",
        target="breaker",
        permission="trip_breaker",
        action=AuditAction.TRIPPED_BREAKER,
        label=_("Trip"),
        is_destructive=True,
    ),
)

WORKER_VERBS = (
    Verb(
        name="quiet_workers",
        target="worker",
        permission="quiet_worker",
        action=AuditAction.QUIETED,
        label=_("Quiet"),
    ),
    Verb(
        name="resume_workers",
        target="worker",
        permission="quiet_worker",
        action=AuditAction.RESUMED,
        label=_("Resume"),
    ),
    Verb(
        name="stop_workers",
        target="worker",
        permission="stop_worker",
        action=AuditAction.STOPPED,
        label=_("Stop"),
        is_destructive=True,
    ),
)

SCHEDULE_VERBS = (
    Verb(
        name="create_schedule",
        target="schedule",
        permission="add_{model}",
        action=AuditAction.CREATED,
        label=_("Add"),
        operation="save_schedule",
    ),
    Verb(
        name="change_schedule",
        target="schedule",
        permission="change_{model}",
        action=AuditAction.CHANGED,
        label=_("Save"),
        operation="save_schedule",
    ),
    Verb(
        name="enable_schedule",
        target="schedule",
        permission="change_{model}",
        action=AuditAction.ENABLED,
        label=_("Enable"),
        many="enable_schedules",
        list_action="enable_schedules",
        title=_("Enable schedules"),
    ),
    Verb(
        name="disable_schedule",
        target="schedule",
        permission="change_{model}",
        action=AuditAction.DISABLED,
        label=_("Disable"),
        many="disable_schedules",
        list_action="disable_schedules",
        title=_("Disable schedules"),
    ),
    Verb(
        name="run_schedule_now",
        target="schedule",
        permission="run_schedule",
        action=AuditAction.RAN,
        label=_("Run now"),
        many="run_schedules_now",
        list_action="run_schedules",
        title=_("Run schedules now"),
    ),
    Verb(
        name="delete_schedule",
        target="schedule",
        permission="delete_{model}",
        action=AuditAction.REMOVED,
        label=_("Delete"),
        is_destructive=True,
        many="delete_schedules",
        list_action="delete_selected",
        title=_("Delete schedules"),
    ),
)

PERSON_VERBS = (
    Verb(
        name="erase_person",
        target="person",
        permission="erase_person",
        action=AuditAction.ERASED,
        label=_("Erase"),
        is_destructive=True,
    ),
)

VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        *JOB_VERBS,
        *DEAD_LETTER_VERBS,
        *GROUP_VERBS,
        *QUEUE_VERBS,
        *WORKER_VERBS,
        *SCHEDULE_VERBS,
        *PERSON_VERBS,
    )
}
"""Each verb by its name. An unknown name raises KeyError."""
