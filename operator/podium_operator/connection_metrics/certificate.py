"""The certificate by which the API server knows this process: made by the process itself, its key never stored. Pure.

The registration names the very certificate as the only one to trust (`caBundle`), so no authority is needed.
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=365)
RENEWAL = timedelta(days=180)
"""Age at which another certificate takes over."""

CLOCK_SKEW = timedelta(minutes=10)
"""By so much the clocks of two nodes may differ."""


@dataclass(frozen=True)
class Certificate:
    """A serving certificate and its private key, both PEM."""

    public: str
    key: str
    made: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether another one should be made."""
        return now - self.made > RENEWAL


def make(server_name: str, now: datetime | None = None) -> Certificate:
    """A self-signed certificate of a TLS server with this name."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    # The common name has at most 64 characters (RFC 5280); only the alternative name is looked at.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificate(certificate.public_bytes(Encoding.PEM).decode(), private.decode(), now)


def tls(certificate: Certificate, client_authority: str) -> ssl.SSLContext:
    """TLS of a server that takes client certificates of one authority (PEM), and clients without one.

    A certificate of anybody else ends the handshake; who comes without one is told so in HTTP. Raises ssl.SSLError for
    an authority that cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=client_authority)
    # The ssl module takes a key from a file only; the folder is the pod's memory, and the file is gone at once.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "serving.pem"
        file.touch(mode=0o600)
        file.write_text(certificate.key + certificate.public)
        context.load_cert_chain(file)
    return context
