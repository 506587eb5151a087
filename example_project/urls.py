"""The URLs of the example."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from .accounts.views import ResetView, SignUpView
from .invoices import views as invoices
from .media import media

urlpatterns = [
    path("", invoices.home, name="home"),
    path("invoices/<int:pk>/pdf", invoices.make_pdf, name="make-pdf"),
    path("organizations/<slug:slug>/pdfs", invoices.make_all_pdfs, name="make-all-pdfs"),
    path("organizations/<slug:slug>/bill", invoices.bill_month, name="bill-month"),
    path("media/<path:name>", media, name="media"),
    path("files/", include("wellos_jobs.contrib.urls")),  # the links in mails: signed, good for some days, no login
    path("sign-up", SignUpView.as_view(), name="sign-up"),
    path("login", auth.LoginView.as_view(), name="login"),
    path("logout", auth.LogoutView.as_view(), name="logout"),
    path("password-reset", ResetView.as_view(), name="password_reset"),
    path("password-reset/sent", auth.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path("password-reset/<uidb64>/<token>", auth.PasswordResetConfirmView.as_view(), name="password_reset_confirm"),
    path("password-reset/done", auth.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("jobs/", include("wellos_jobs.urls")),
    path("django-rq/", include("django_rq.urls")),
    path("admin/", admin.site.urls),
]
