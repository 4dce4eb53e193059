"""What people fill in to answer an approval: the reason, and each fact that it puts out."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core import exceptions
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas.console import approving


class FactField(forms.CharField):
    """One fact: JSON where it is any, and otherwise the text itself."""

    def clean(self, value: Any) -> Any:
        """What was typed, as a fact."""
        text = super().clean(value)
        try:
            return approving.read_fact(text)
        except ValueError as error:
            raise exceptions.ValidationError(
                _("This cannot be kept as JSON: %(why)s."), params={"why": str(error)}
            ) from None


class AnswerForm(forms.Form):
    """A yes with its reason and facts, or a no with its reason."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
        help_text=gettext_lazy("Kept for ever in the saga's events, with your name. No personal data."),
    )

    def __init__(self, answer: str, outputs: Sequence[str], data: Any = None) -> None:
        super().__init__(data)
        self.outputs = tuple(outputs) if answer == approving.APPROVE else ()
        for name in self.outputs:
            self.fields[f"fact-{name}"] = FactField(
                label=name,
                max_length=4096,
                help_text=_("For later steps: text, or JSON such as 7, true or [1, 2]."),
                widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
            )

    @property
    def facts(self) -> dict[str, Any]:
        """What was stated, by its name."""
        return {name: self.cleaned_data[f"fact-{name}"] for name in self.outputs}
