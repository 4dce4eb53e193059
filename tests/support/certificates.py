"""Certificates for a server on this machine, by an authority of the test's own."""

import dataclasses
import pathlib
import subprocess


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files, in PEM."""

    authority: pathlib.Path
    """Whom a client must trust."""

    certificate: pathlib.Path
    key: pathlib.Path


def make(place, address):
    """Have `openssl` make a certificate for that IP address, and for no other name."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl(
        "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=The test's authority"
    )
    openssl(
        "req", "-x509", *curve, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=the broker",
        "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=IP:{address}",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    return Certificates(
        authority=place / "ca.pem", certificate=place / "server.pem", key=place / "server.key"
    )
