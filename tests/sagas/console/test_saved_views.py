"""Each user saves the views of the list of sagas that they want again, and sees nobody else's."""

import pytest

from sagas.console.admin import saved_views
from sagas.console.models import SavedView
from tests.sagas.console import admin_client

pytestmark = pytest.mark.usefixtures("rows")

LIST = "/admin/sagas/sagainstance/"
VIEWS = f"{LIST}views/"


def test_a_view_is_saved_found_again_and_removed():
    viewer = admin_client.viewer()

    saved = viewer.post(VIEWS, {"name": "Mine", "query": "state=live&begun=24h&p=3"}, follow=True)

    assert saved.redirect_chain[-1][0] == f"{LIST}?state=live&begun=24h"
    assert 'href="?state=live&amp;begun=24h" aria-current="page">Mine<' in saved.content.decode()
    assert 'href="?state=live&amp;begun=24h">Mine<' in viewer.get(LIST).content.decode()

    viewer.post(VIEWS, {"name": "Mine", "query": "state=held"})
    assert [view.query for view in SavedView.objects.all()] == ["state=held"]

    viewer.post(VIEWS, {"name": "Mine", "query": "", "remove": "1"})
    assert not SavedView.objects.exists()


def test_nobody_sees_or_removes_anothers():
    admin_client.viewer().post(VIEWS, {"name": "Hers", "query": "state=live"})
    other = admin_client.operator()

    assert "Hers" not in other.get(LIST).content.decode()
    other.post(VIEWS, {"name": "Hers", "query": "", "remove": "1"})
    assert SavedView.objects.count() == 1
    assert admin_client.client(admin_client.NOBODY).post(VIEWS, {"name": "x"}).status_code == 403
    assert other.get(VIEWS).status_code == 405


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"name": " ", "query": "state=live"}, "Give the view a name"),
        ({"name": "x" * 61, "query": "state=live"}, "Give the view a name"),
        ({"name": "Long", "query": "q=" + "x" * 2000}, "too much to be saved"),
    ],
)
def test_what_cannot_be_saved_says_why(sent, why):
    # The list's own address is then as long as what was sent; the message waits for the next page.
    viewer = admin_client.viewer()
    viewer.post(VIEWS, sent)

    assert why in admin_client.text(viewer.get(LIST))
    assert not SavedView.objects.exists()


def test_there_are_no_more_than_can_be_looked_over(monkeypatch):
    monkeypatch.setattr(saved_views, "AT_MOST", 1)
    viewer = admin_client.viewer()
    for name in ("One", "Two"):
        response = viewer.post(VIEWS, {"name": name, "query": "state=live"}, follow=True)

    assert "remove one first" in admin_client.text(response)
    assert [view.name for view in SavedView.objects.all()] == ["One"]
