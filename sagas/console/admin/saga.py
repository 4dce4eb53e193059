"""Sagas in the admin: their list, the page of each, interventions, and failure groups."""

from django.contrib import admin

from sagas.console.admin import failure_group_page, intervention_pages, saga_list
from sagas.models import SagaInstance


@admin.register(SagaInstance)
class SagaAdmin(
    saga_list.SagaList, intervention_pages.InterventionPages, failure_group_page.FailureGroupPage
):
    """The list, and every page that is reached from it."""
