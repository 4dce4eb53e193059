"""The keys of the API: tokens, which are made and revoked here, and those of requests that were answered."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import models as auth
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import html
from django.utils.translation import gettext_lazy as _

from api import models, tokens


class Kept(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that are asked about when something went wrong."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes one: of tokens a new one is made, and the old one revoked."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes one."""
        return False


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a token that its maker may not hand out."""

    maker: auth.User
    """Who fills it in: TokenAdmin says."""

    def clean(self) -> dict[str, Any]:
        """Whoever may not choose a user makes it for themselves."""
        data = super().clean() or self.cleaned_data
        user, scope = data.get("user", self.maker), data.get("scope")
        if user is not None and scope and (why := tokens.refusal(maker=self.maker, user=user, scope=scope)):
            self.add_error("user" if "user" in self.fields and user != self.maker else "scope", why)
        return data


@admin.register(models.Token)
class TokenAdmin(Kept):
    """Made here, shown once, and from then on to be revoked but neither changed nor deleted."""

    list_display = ("hint", "name", "user", "scope", "created_at", "expires_at", "used_at", "revoked_at")
    list_filter = ("scope",)
    list_select_related = ("user",)
    search_fields = ("=hint", "name", "user__username")
    ordering = ("-id",)
    show_full_result_count = False
    autocomplete_fields = ("user",)
    actions = ("revoke",)
    form = TokenForm

    def get_fields(self, request: HttpRequest, obj: models.Token | None = None) -> tuple[str, ...]:
        """What is chosen when it is made, or what there is to be seen; only superusers choose for whom."""
        chosen = ("user", "name", "scope", "expires_at")
        if obj is None and not request.user.is_superuser:
            return chosen[1:]
        return chosen if obj is None else (*chosen, "hint", "created_at", "used_at", "revoked_at")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form knows who fills it in."""
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"maker": request.user})

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may make one may revoke their own; everybody's, whoever has `api.change_token`."""
        return self.has_add_permission(request) or request.user.has_perm("api.change_token")

    def save_model(self, request: HttpRequest, obj: models.Token, form: Any, change: bool) -> None:
        """Make it, and show its secret this once."""
        if "user" not in form.cleaned_data:
            obj.user = form.maker
        secret = tokens.fill(obj)
        super().save_model(request, obj, form, change)
        told = html.format_html("{} <code>{}</code>", _("Copy it now, it is not shown again:"), secret)
        self.message_user(request, told, messages.WARNING)

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[models.Token]) -> None:
        """From now on they open nothing."""
        refused = 0
        for token in queryset:
            if not tokens.may_revoke(actor=request.user, token=token):  # type: ignore[arg-type]
                refused += 1
                continue
            tokens.revoke(token=token)
            self.log_change(request, token, "Revoked.")
        if refused:
            told = _("Not revoked, for they are another's: %(count)s.") % {"count": refused}
            self.message_user(request, told, messages.ERROR)
        if refused < len(queryset):
            self.message_user(request, _("They open nothing any more."))


@admin.register(models.IdempotencyKey)
class IdempotencyKeyAdmin(Kept):
    """Requests that were answered, for who asks why a client got an old answer."""

    list_display = ("key", "owner", "endpoint", "status", "created_at", "expires_at")
    list_select_related = ("owner",)
    search_fields = ("key__exact", "owner__username__exact")
    ordering = ("-id",)
    show_full_result_count = False
    exclude = ("body",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Requests are made elsewhere."""
        return False
