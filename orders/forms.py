"""What people fill in in the admin."""

from typing import ClassVar

from django import forms
from django.core import exceptions
from django.utils.translation import gettext_lazy as _

from orders import models, tax_ids


class FlaggedCustomer(forms.ModelForm):  # type: ignore[type-arg]
    """A customer to be flagged, by CPF or CNPJ with or without punctuation."""

    tax_id = forms.CharField(label=_("CPF or CNPJ"), max_length=20)

    class Meta:
        model = models.FlaggedCustomer
        fields: ClassVar = ["tax_id", "reason"]

    def clean_tax_id(self) -> str:
        """As orders have it.

        Raises:
            ValidationError: its check digits are wrong, or it has another length.
        """
        tax_id = tax_ids.tax_id(self.cleaned_data["tax_id"])
        if tax_id is None:
            raise exceptions.ValidationError(_("This is no CPF and no CNPJ: its check digits are wrong."))
        return tax_id
