"""Ready job types: emails, notifications, reports, cleanup. Add ``"wellos_jobs.contrib"`` to ``INSTALLED_APPS``."""
