"""Every row of the engine, to look at: nothing is added, changed or deleted here by hand."""

from django.contrib import admin
from django.http import HttpRequest

from sagas import models


class ReadOnly:
    """Nobody adds, changes or deletes here: moves have pages of their own, with a reason."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False


@admin.register(models.StepInstance)
class StepAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first."""

    list_display = ("id", "saga_id", "name", "state", "attempts", "undo_attempts", "started_at", "worker")
    search_fields = ("=saga__id", "=task_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(models.Event)
class EventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first; the database refuses to change or delete one."""

    list_display = ("at", "saga_id", "kind", "subject", "from_state", "to_state", "attempt", "actor")
    search_fields = ("=saga__id",)
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(models.Signal)
class SignalAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The inbox, newest first."""

    list_display = ("received_at", "source", "kind", "step_key", "fate", "matched_at", "remedied_at")
    list_filter = ("fate",)
    search_fields = ("=step_key", "=event_id")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(models.Queue)
class QueueAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """What probes tell of each queue."""

    list_display = ("name", "probed_at", "echoed_sent_at", "echoed_at", "worker")


@admin.register(models.Approval)
class ApprovalAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first; they are decided on the page of their saga."""

    list_display = ("asked_at", "saga_id", "move", "actor", "state", "decided_by", "decided_at")
    list_filter = ("state",)
    search_fields = ("=saga__id",)
    ordering = ("-asked_at",)
    show_full_result_count = False


@admin.register(models.FailureNote)
class FailureNoteAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first; they are written on the page of failure groups."""

    list_display = ("text", "actor", "at")
    ordering = ("-at",)


@admin.register(models.Circuit)
class CircuitAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Which provider is out."""

    list_display = ("name", "trips", "opened_at", "open_until")
