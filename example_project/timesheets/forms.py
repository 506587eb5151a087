"""The form for uploading a CSV file."""

from __future__ import annotations

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import FileExtensionValidator
from django.template.defaultfilters import filesizeformat

from . import csv_lines

MOST_BYTES = 5 * 1024 * 1024
MOST_LINES = 50_000


class CsvForm(forms.Form):
    """Validates the file; the jobs validate its lines. ``lines`` is their number."""

    file = forms.FileField(
        label="CSV file",
        max_length=120,
        validators=[FileExtensionValidator(["csv"])],
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
        help_text=f"Columns: {', '.join(csv_lines.COLUMNS)}. At most {MOST_LINES:,} lines.",
    )
    lines = 0

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if (file.size or 0) > MOST_BYTES:
            raise forms.ValidationError(
                f"The file is larger than {filesizeformat(MOST_BYTES)}: split it."
            )
        try:
            self.lines = csv_lines.check_file(file)
        except ValueError as error:
            raise forms.ValidationError(f"{error}.") from error
        if not 0 < self.lines <= MOST_LINES:
            raise forms.ValidationError(
                f"The file has {self.lines:,} lines: it must have 1 to {MOST_LINES:,}."
            )
        return file
