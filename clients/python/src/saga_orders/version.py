"""Which version of the client this is: that of the repository, which a release writes here."""

__version__ = "0.10.1"
