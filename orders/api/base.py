"""What all views of the API share."""

from rest_framework import views


class View(views.APIView):
    """A view that says truly which methods it takes; OPTIONS is none, for there is /api/schema."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
