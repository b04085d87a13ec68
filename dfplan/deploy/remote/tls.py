"""Certificates: what a policy server shows, and what a robot trusts."""

from __future__ import annotations

import logging
import os
import ssl
import sys

LOG = logging.getLogger("dfplan.deploy")
_MAKE_ONE = "docs/server.md has the command that makes both"
Name = str | os.PathLike[str]


def shown(certificate: Name, key: Name) -> ssl.SSLContext:
    """For a server that shows this certificate (PEM); ValueError where it cannot, a warning where others can read the key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        for file in (certificate, key):
            with open(file, "rb"):
                pass
        if sys.platform != "win32" and os.stat(key).st_mode & 0o077:
            LOG.warning("the key %s can be read by others; run: chmod 600 %s", key, key)
        context.load_cert_chain(certificate, key, password=lambda: b"")  # never asks for one
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(
            f"got certificate {certificate} and key {key} ({_reason(error)}), expected two PEM files that belong together, "
            f"the key without a password; {_MAKE_ONE}"
        ) from error
    return context


def trusting(ca: Name | None) -> ssl.SSLContext:
    """For a robot that trusts these certificates (PEM), None: the system's; ValueError for a file that holds none."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(
            f"got ca {ca} ({_reason(error)}), expected a PEM file: the server's own certificate, or that of who signed it"
        ) from error


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
