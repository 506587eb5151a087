"""Foreign keys to users, who may be in another database than the jobs.

No table of jobs is looked for where the users are, nor the other way round: users are looked up
where the router reads them, and forgotten here when they are deleted there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models, router
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

from .. import conf
from ..database import job_databases

if TYPE_CHECKING:
    from django.db.models.deletion import Collector

    _Key = models.ForeignKey[Any, Any]
    _Descriptor = ForwardManyToOneDescriptor[Any]
else:
    _Key = models.ForeignKey
    _Descriptor = ForwardManyToOneDescriptor


class _User(_Descriptor):
    """Looks the user up where the router reads users, whichever database the row is in."""

    def get_queryset(self, **_: Any) -> models.QuerySet[Any]:
        users: Any = self.field.remote_field.model
        found: models.QuerySet[Any] = users._base_manager.using(router.db_for_read(users))
        return found

    def get_object(self, instance: models.Model) -> Any:
        """Return the user, or None for one who was deleted while this database was not asked."""
        users = self.get_queryset()
        return users.filter(self.field.get_reverse_related_filter(instance)).first()

    def __set__(self, instance: models.Model, value: Any) -> None:
        if isinstance(value, self.field.remote_field.model):
            setattr(instance, self.field.attname, value.pk)
            self.field.set_cached_value(instance, value)
        else:
            super().__set__(instance, value)


class UserKey(_Key):
    """A foreign key to a user, without a constraint in the database."""

    forward_related_accessor_class = _User

    def __init__(self, to: Any, on_delete: Any, **options: Any) -> None:
        options.update(db_constraint=False, related_name="+")
        super().__init__(to, on_delete, **options)


def user_key(label: Any) -> _Key:
    """Return a nullable key to a user."""
    return UserKey(conf.user_model(), forget_user, null=True, blank=True, verbose_name=label)


# --- when a user is deleted -----------------------------------------------------------------------


def forget_user(collector: Collector, field: Any, rows: Any, using: str) -> None:
    """Set the key of a deleted user to NULL, in each database with jobs.

    In another database that is not undone if the users' transaction is rolled back later.
    """
    for alias in _databases_of(field, using):
        nothing = None if alias == using else _Nothing(alias)
        collector.add_field_update(field, nothing, rows.using(alias))


def delete_with_user(collector: Collector, field: Any, rows: Any, using: str) -> None:
    """Delete the rows of a deleted user, in each database with jobs."""
    for alias in _databases_of(field, using):
        if alias == using:
            models.CASCADE(collector, field, rows, using)
        else:
            collector.fast_deletes.append(_Elsewhere(rows.model, rows.query, alias))


# Django must not look for the rows where the users are.
forget_user.lazy_sub_objs = True  # type: ignore[attr-defined]
delete_with_user.lazy_sub_objs = True  # type: ignore[attr-defined]


def _databases_of(field: Any, using: str) -> list[str]:
    """Return the databases with jobs, if ``using`` is where the users are that they mean."""
    users = field.remote_field.model
    return job_databases() if using == router.db_for_write(users) else []


class _Nothing(models.Value):
    """NULL in one database: Django combines the updates to the same value, of all databases."""

    def __init__(self, alias: str) -> None:
        super().__init__(None)
        self.alias = alias


class _Elsewhere(models.QuerySet[Any]):
    """Rows to be deleted in their own database, though Django names that of the users."""

    def _raw_delete(self, using: str | None) -> int:
        return super()._raw_delete(self.db)
