"""The form of the page that judges a pasted text."""

from django import forms


class TextForm(forms.Form):
    subject = forms.CharField(
        required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}), label="Subject"
    )
    body = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10, "placeholder": "Paste an e-mail here"}),
        label="Text",
        error_messages={"required": "Paste the text of an e-mail."},
    )
