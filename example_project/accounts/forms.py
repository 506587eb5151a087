"""Forms: sign-up, and password reset with an email job."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm, PasswordResetForm
from django.urls import reverse
from django.utils.text import slugify

from example_project.organizations.models import Organization
from wellos_jobs.contrib.emails import send_password_reset_email

from .models import User


class SignUpForm(BaseUserCreationForm):
    """Creates a user and an organization. To join an existing one, ask its members."""

    organization_name = forms.CharField(label="Organization", max_length=64)

    class Meta:
        model = User
        fields = ["username", "email"]

    def clean_organization_name(self) -> str:
        name: str = self.cleaned_data["organization_name"]
        slug = slugify(name)
        if not slug:
            raise forms.ValidationError("Use at least one letter from a to z.")
        if Organization.objects.filter(pk=slug).exists():
            raise forms.ValidationError(
                "This organization exists already: ask one of its members to add you."
            )
        return name

    def save(self, commit: bool = True) -> User:
        """Save the organization and start the user's trial."""
        user: User = super().save(commit=False)
        name = self.cleaned_data["organization_name"]
        user.organization = Organization.objects.create(
            slug=slugify(name), name=name, email=user.email
        )
        user.begin_trial()
        return user


class ResetForm(PasswordResetForm):
    """Django's form, with an email job whose token is encrypted."""

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
