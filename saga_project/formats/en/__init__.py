"""As in every language of the console."""
