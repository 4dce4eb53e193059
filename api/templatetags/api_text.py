"""Text of our own, made fit for a page."""

import re

from django import template
from django.utils import html, safestring

register = template.Library()


@register.filter
def code(text: str) -> safestring.SafeString:
    """What stands in backticks, as code."""
    return safestring.mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))  # noqa: S308 - escaped
