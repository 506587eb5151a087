"""Sign up, and the password reset with its mail as a job."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.views import PasswordResetView
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse_lazy
from django.views.generic import FormView

from .forms import ResetForm, SignUpForm


class SignUpView(FormView):
    form_class = SignUpForm
    template_name = "registration/sign_up.html"
    success_url = reverse_lazy("login")

    @transaction.atomic
    def form_valid(self, form: SignUpForm) -> HttpResponse:
        form.save()  # the triggers in jobs.py enqueue the mails, in this transaction
        messages.success(self.request, "Welcome! A mail is on its way to you.")
        return super().form_valid(form)


class ResetView(PasswordResetView):
    form_class = ResetForm
