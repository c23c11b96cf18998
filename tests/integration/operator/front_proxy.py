"""Certificates of the API server as a client of the servers behind it, made for a test."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
    )


@dataclass(frozen=True)
class Authority:
    """Signs client certificates."""

    certificate: str
    """Its own, PEM."""
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls) -> Authority:
        """A new one; each has the same name, so that only the signature tells them apart."""
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("front-proxy-ca")
        extension = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(name, name, key).add_extension(extension, critical=True).sign(key, hashes.SHA256())
        return cls(made.public_bytes(Encoding.PEM).decode(), key)

    def client(self, file: Path, common_name: str) -> Path:
        """Write a client's certificate and key into a file, and return its path."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer = x509.load_pem_x509_certificate(self.certificate.encode()).subject
        made = _builder(_name(common_name), issuer, key).add_extension(usage, critical=False)
        signed = made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed)
        return file

    def connection(self, folder: Path, common_name: str) -> ssl.SSLContext:
        """TLS of a client with a certificate of this authority; it takes every server."""
        context = anonymous()
        context.load_cert_chain(self.client(folder / "client.pem", common_name))
        return context


def anonymous() -> ssl.SSLContext:
    """TLS of a client without a certificate; it takes every server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
