"""A time stamp authority (RFC 3161) with a certificate of its own: OpenSSL signs."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CONFIG = """
[tsa]
default_tsa = own
[own]
dir = .
serial = ./serial
crypto_device = builtin
signer_cert = ./tsa.pem
certs = ./root.pem
signer_key = ./tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""
_EXTENSIONS = "extendedKeyUsage = critical,timeStamping\nkeyUsage = critical,digitalSignature\n"


class Authority:
    """Signs requests. `roots` is the certificate that verifies it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        (directory / "tsa.cnf").write_text(_CONFIG)
        (directory / "serial").write_text("01\n")
        (directory / "tsa.ext").write_text(_EXTENSIONS)
        self.roots = directory / "root.pem"
        new = ("-newkey", "rsa:2048", "-nodes")
        self._openssl(
            "req", "-x509", *new, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", "-days", "2"
        )
        self._openssl("req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=tsa")
        signed_by = ("-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "tsa.ext")
        self._openssl("x509", "-req", "-in", "tsa.csr", *signed_by, "-out", "tsa.pem", "-days", "2")

    def reply(self, request: bytes) -> bytes:
        """Return the answer to a request."""
        (self._directory / "query").write_bytes(request)
        self._openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply")
        return (self._directory / "reply").read_bytes()

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
