"""Sign-up, confirmation of the email address, and password reset."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetConfirmView, PasswordResetView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST
from django.views.generic import FormView

from .confirmation import mail_again, user_of
from .forms import ResetForm, SignUpForm


class SignUpView(FormView):
    form_class = SignUpForm
    template_name = "registration/sign_up.html"
    success_url = reverse_lazy("login")

    @transaction.atomic
    def form_valid(self, form: SignUpForm) -> HttpResponse:
        user = form.save()  # triggers in jobs.py enqueue the emails in this transaction
        messages.success(
            self.request,
            f"Welcome! An email to {user.email} is on its way: "
            "use its link to confirm your address.",
        )
        return super().form_valid(form)


@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm the address by POST. GET changes nothing, because mail programs open links, too."""
    person = user_of(token)
    if request.method == "POST" and person is not None:
        person.confirm()
        messages.success(request, f"{person.email} is confirmed.")
        return redirect("home" if request.user.is_authenticated else "login")
    return render(request, "registration/confirm.html", {"person": person})


@login_required
@require_POST
def confirm_again(request: HttpRequest) -> HttpResponse:
    """Send the confirmation link again."""
    if request.user.is_pending:
        handle = mail_again(request.user, f"{timezone.localdate()}")
        when = "was already sent today" if handle.duplicate else "is on its way"
        messages.info(request, f"An email with the link {when} to {request.user.email}.")
    return redirect("home")


class ResetView(PasswordResetView):
    form_class = ResetForm


class ResetConfirmView(PasswordResetConfirmView):
    """Also confirms the address, because the user has received an email there."""

    def form_valid(self, form: object) -> HttpResponse:
        self.user.confirm()
        return super().form_valid(form)
