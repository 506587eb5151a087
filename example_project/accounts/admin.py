from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin

from .models import AccessToken, User


@admin.register(User)
class UserAdmin(BaseUserAdmin):
    list_display = ["username", "email", "organization", "trial_ends_at", "is_pending", "is_staff"]
    list_filter = ["is_pending", "organization", "is_staff"]
    fieldsets = [
        *BaseUserAdmin.fieldsets,
        ("WellOS", {"fields": ["organization", "trial_ends_at", "is_pending"]}),
    ]


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):
    list_display = ["name", "user", "created_at", "expires_at"]
    list_select_related = ["user"]
    readonly_fields = ["digest", "created_at"]

    def has_add_permission(self, request) -> bool:
        return False  # a token's text can be shown only where it is made
