"""Forms: sign up, and ask for a new password by a mail that a job sends."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import BaseUserCreationForm, PasswordResetForm
from django.urls import reverse

from wellos_jobs.contrib.emails import send_password_reset_email

from .models import User


class SignUpForm(BaseUserCreationForm):
    class Meta:
        model = User
        fields = ["username", "email", "organization"]


class ResetForm(PasswordResetForm):
    """Django's form; the mail is a job with the token encrypted in it."""

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        from_email: str | None,
        to_email: str,
        html_email_template_name: str | None = None,
    ) -> None:
        path = reverse("password_reset_confirm", args=[context["uid"], context["token"]])
        link = f"{context['protocol']}://{context['domain']}{path}"
        organization = context["user"].organization_id or ""
        send_password_reset_email(to_email, context["token"], link=link, organization=organization)
