"""Certificates of one run: an authority of its own, valid for eight days, whose key is forgotten at once.

Whoever holds a certificate of the authority may run code on every process of the run, and nobody else. All processes share
one certificate: Dask tells them apart by authority, not by name.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.security import Security

from biolmm.cluster.rundir import private_folder, write_private
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 8
_NAMES = (("ca.pem", "cert.pem", "key.pem"), ("ca.crt", "tls.crt", "tls.key"))
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """Files of a run: the authority, the certificate that it signed, and its key."""

    authority: Path
    certificate: Path
    key: Path

    def security(self) -> Security:
        """Return what Dask takes: TLS for every role, and nothing else."""
        roles = ("client", "scheduler", "worker")
        files = {
            f"tls_{role}_{kind}": str(file)
            for role in roles
            for kind, file in (("cert", self.certificate), ("key", self.key))
        }
        return Security(tls_ca_file=str(self.authority), require_encryption=True, **files)


def open_certificates(folder: Path) -> Certificates:
    """Return the certificates in a folder.

    Raises
    ------
    ParameterError
        When files are missing, cannot be read, or are not valid now.
    """
    from cryptography import x509

    for names in _NAMES:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            break
    else:
        raise ParameterError(
            f"'{folder}' lacks certificates: it must hold {' '.join(_NAMES[0])}, or {' '.join(_NAMES[1])}."
        )
    try:
        certificate = x509.load_pem_x509_certificate(files[1].read_bytes())
        files[2].read_bytes()
    except (OSError, ValueError) as error:
        raise ParameterError(f"'{files[1]}' or its key cannot be read: {error}.") from error
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ParameterError(
            f"'{files[1]}' is valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC only: make new certificates."
        )
    return Certificates(*files)


def run_certificates(folder: Path) -> Certificates:
    """Return the certificates of a run, made where there are none that last another day; files 0600 in a folder 0700."""
    from cryptography import x509

    private_folder(folder)
    try:
        found = open_certificates(folder)
        valid = x509.load_pem_x509_certificate(found.certificate.read_bytes()).not_valid_after_utc
        if valid - datetime.datetime.now(datetime.UTC) > _DAY:
            return found
    except ParameterError:
        pass
    for name, content in zip(_NAMES[0], _make(), strict=True):
        write_private(folder / name, content)
    return open_certificates(folder)


def _make() -> tuple[bytes, bytes, bytes]:
    """Return the PEM files of a new authority, of a certificate that it signed, and of that one's key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("biolmm run"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=10))  # clocks of machines differ
            .not_valid_after(now + DAYS * _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        )

    def pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = begun("biolmm run", signer, authority=True).sign(signer, hashes.SHA256())
    certificate = begun("biolmm process", key, authority=False).sign(signer, hashes.SHA256())
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return pem(authority), pem(certificate), secret


def is_loopback(address: str) -> bool:
    """Whether an address, with or without scheme and port, is reached from this machine only.

    Examples
    --------
    >>> is_loopback("tcp://127.0.0.1:8786"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("10.1.2.3:80")
    (True, True, False, False)
    """
    host = address.rpartition("://")[2]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open(address: str, *, tls: bool, insecure: bool) -> None:
    """Refuse an address beyond this machine without TLS: whoever reaches it could run programs as this user.

    Raises
    ------
    ParameterError
        Unless `insecure` allows it.
    """
    if tls or insecure or is_loopback(address):
        return
    raise ParameterError(
        f"{address} is reached from other machines and has no TLS: whoever can connect could run programs as this user. "
        "Name a --run-directory or --tls-directory for certificates, or allow it with --insecure."
    )
