"""Sign up, confirm the address, and the password reset with its mail as a job."""

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
        user = form.save()  # the triggers in jobs.py enqueue the mails, in this transaction
        text = f"Welcome! A mail to {user.email} is on its way: follow its link to confirm the address."
        messages.success(self.request, text)
        return super().form_valid(form)


@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm the address of the account that a link is for. Looking does nothing: mail programs
    follow links, too."""
    person = user_of(token)
    if request.method == "POST" and person is not None:
        person.confirm()
        messages.success(request, f"{person.email} is confirmed.")
        return redirect("home" if request.user.is_authenticated else "login")
    return render(request, "registration/confirm.html", {"person": person})


@login_required
@require_POST
def confirm_again(request: HttpRequest) -> HttpResponse:
    """Enqueue another welcome mail for somebody who has lost the link."""
    if request.user.is_pending:
        handle = mail_again(request.user, f"{timezone.localdate()}")
        when = "was sent to you today already" if handle.duplicate else "is on its way to you"
        messages.info(request, f"A mail with the link {when}: {request.user.email}.")
    return redirect("home")


class ResetView(PasswordResetView):
    form_class = ResetForm


class ResetConfirmView(PasswordResetConfirmView):
    """Whoever got the mail has the address, so it needs no other confirmation."""

    def form_valid(self, form: object) -> HttpResponse:
        self.user.confirm()
        return super().form_valid(form)
