"""Nobody calls the benchmark's shop over HTTP."""

urlpatterns: list[object] = []
