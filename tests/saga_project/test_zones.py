"""Each viewer's time zone."""

import zoneinfo

import pytest
from django import http, test
from django.utils import timezone

from saga_project import zones

pytestmark = pytest.mark.unit


def zone_for(cookie: str) -> str:
    """The zone in which a request with that cookie is worked on."""
    request = test.RequestFactory().get("/")
    request.COOKIES[zones.COOKIE] = cookie
    seen: list[str] = []

    def handler(_: http.HttpRequest) -> http.HttpResponse:
        seen.append(timezone.get_current_timezone_name())
        return http.HttpResponse()

    zones.ViewerZone(handler)(request)
    return seen[0]


@pytest.mark.parametrize(
    ("cookie", "zone"),
    [
        ("America/Sao_Paulo", "America/Sao_Paulo"),
        ("Asia/Tokyo!", "Asia/Tokyo"),
        ("", "UTC"),
        ("../../etc/passwd", "UTC"),
        ("Mars/Olympus", "UTC"),
    ],
)
def test_the_cookie_names_the_zone(cookie: str, zone: str) -> None:
    assert zone_for(cookie) == zone
    assert timezone.get_current_timezone_name() == "UTC"


def test_no_request_lists_all_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files are opened for it: it takes milliseconds."""
    zones.known()

    def listed() -> set[str]:
        raise AssertionError("all zones were listed anew")

    monkeypatch.setattr(zoneinfo, "available_timezones", listed)

    assert zone_for("Asia/Tokyo") == "Asia/Tokyo"
