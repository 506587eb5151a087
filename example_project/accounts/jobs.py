"""Tells the cleanup jobs which rows to delete."""

from wellos_jobs.contrib import cleanup

from .models import AccessToken, User

cleanup.register_expired_tokens(AccessToken.objects.expired)
cleanup.register_pending_users(User.overdue)
