"""The URLs of the example. Pages of an organization are below ``o/<slug>/``."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from .accounts.views import ResetConfirmView, ResetView, SignUpView, confirm, confirm_again
from .activity import views as activity
from .invoices import views as invoices
from .organizations import views as organizations
from .reporting import views as reporting
from .timesheets import views as timesheets

organization_urls = [
    path("", organizations.overview, name="overview"),
    path("invoices/", invoices.invoice_list, name="invoices"),
    path("invoices/pdfs", invoices.make_all_pdfs, name="make-all-pdfs"),
    path("invoices/bill", invoices.bill_month, name="bill-month"),
    path("invoices/<int:pk>/", invoices.invoice_page, name="invoice"),
    path("invoices/<int:pk>/file", invoices.open_pdf, name="open-pdf"),
    path("invoices/<int:pk>/pdf", invoices.make_pdf, name="make-pdf"),
    path("invoices/<int:pk>/issue", invoices.issue_invoice, name="issue-invoice"),
    path("invoices/<int:pk>/paid", invoices.mark_paid, name="mark-paid"),
    path("time/", timesheets.entry_list, name="time-entries"),
    path("time/import", timesheets.import_entries, name="import-entries"),
    path("time/samples/<slug:size>.csv", timesheets.sample_csv, name="sample-csv"),
    path("time/imports/<int:pk>/", timesheets.import_page, name="csv-import"),
    path("time/imports/<int:pk>/progress", timesheets.import_progress, name="csv-import-progress"),
    path("time/imports/<int:pk>/cancel", timesheets.cancel_import, name="cancel-csv-import"),
    path("reports/", reporting.report_list, name="reports"),
    path("reports/<uuid:pk>/file", reporting.open_report, name="open-report"),
    path("reports/schedule", reporting.schedule, name="report-schedule"),
    path("reports/schedule/preview", reporting.schedule_preview, name="preview-schedule"),
    path("reports/schedule/remove", reporting.remove, name="remove-schedule"),
    path("reports/schedule/run", reporting.run_schedule, name="run-schedule"),
    path("jobs/", activity.job_list, name="jobs"),
    path("jobs/rows", activity.job_rows, name="job-rows"),
    path("jobs/<uuid:pk>/", activity.job_page, name="job"),
    path("jobs/<uuid:pk>/cancel", activity.cancel_job, name="cancel-job"),
]

urlpatterns = [
    path("", organizations.home, name="home"),
    # requested by browsers in the admin
    path("favicon.ico", RedirectView.as_view(url=static("example/icon.svg"))),
    path("o/<slug:slug>/", include(organization_urls)),
    # signed links in emails, without login
    path("files/", include("wellos_jobs.contrib.urls")),
    path("sign-up", SignUpView.as_view(), name="sign-up"),
    path("confirm/again", confirm_again, name="confirm-again"),
    path("confirm/<str:token>", confirm, name="confirm"),
    path("login", auth.LoginView.as_view(), name="login"),
    path("logout", auth.LogoutView.as_view(), name="logout"),
    path("password-reset", ResetView.as_view(), name="password_reset"),
    path("password-reset/sent", auth.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path(
        "password-reset/<uidb64>/<token>", ResetConfirmView.as_view(), name="password_reset_confirm"
    ),
    path(
        "password-reset/done",
        auth.PasswordResetCompleteView.as_view(),
        name="password_reset_complete",
    ),
    path("jobs/", include("wellos_jobs.urls")),
    path("django-rq/", include("django_rq.urls")),  # closed: they lead to the admin
    path("admin/", admin.site.urls),
]
