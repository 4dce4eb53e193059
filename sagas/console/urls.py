"""The console's addresses outside the admin: of signed links. A project mounts them, or makes no links."""

from django.urls import path

from sagas.console import link_page

urlpatterns = [
    path("approvals/<str:token>", link_page.answer, name="sagas-approval-link"),
]
