"""What the benchmark needs on disk: DICOM files with noise for pixels, and certificates."""

from __future__ import annotations

import ipaddress
import random
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LARGE", "make_certificates", "make_images", "make_large_object"]

LARGE = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
"""SOP class of the large object."""

_ROOT = "1.2.826.0.1.3680043.10.9999"
_NOISE = 1 << 20
_PIXEL_DATA = b"\xe0\x7f\x10\x00OW\x00\x00"  # tag and VR, explicit VR little endian


def _image(number: int, sop_class: str, rows: int, frames: int) -> Dataset:
    image = Dataset()
    image.SOPClassUID = sop_class
    image.SOPInstanceUID = f"{_ROOT}.1.1.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{_ROOT}.1", f"{_ROOT}.1.1"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.StudyDate, image.StudyTime = "20250102", "030405"
    image.Modality, image.AccessionNumber = "CT", "A1"
    image.Manufacturer, image.StudyDescription = "dicomnet", "Benchmark"
    image.PatientName, image.PatientID = "Bench^Mark", "B1"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.SliceThickness, image.KVP = "1.0", "120"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.ImagePositionPatient = [-200.0, -200.0, float(number)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.FrameOfReferenceUID = f"{_ROOT}.2"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.NumberOfFrames = frames
    image.Rows = image.Columns = rows
    image.PixelSpacing = [0.7, 0.7]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.WindowCenter, image.WindowWidth = 40, 400
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _write(path: Path, image: Dataset, noise: bytes) -> None:
    """Write the header with pydicom, and the pixels behind it."""
    image.save_as(path, enforce_file_format=True)
    size = image.Rows * image.Columns * 2 * image.NumberOfFrames
    with path.open("ab") as file:
        file.write(_PIXEL_DATA + size.to_bytes(4, "little"))
        for at in range(0, size, len(noise)):
            file.write(noise[: size - at])


def make_images(folder: Path, count: int) -> Path:
    """Write `count` CT images of 512 KiB into `folder` and return it."""
    folder.mkdir()
    noise = random.Random(1).randbytes(2 * _NOISE)
    for number in range(1, count + 1):
        at = number * 1009 % _NOISE
        _write(folder / f"{number:05}.dcm", _image(number, CTImageStorage, 512, 1), noise[at : at + _NOISE])
    return folder


def make_large_object(folder: Path, mebibytes: int) -> Path:
    """Write one multi-frame object with so much pixel data into `folder` and return that."""
    folder.mkdir()
    image = _image(1, LARGE, 512, 2 * mebibytes)
    _write(folder / "large.dcm", image, random.Random(1).randbytes(_NOISE))
    return folder


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: str, key: rsa.RSAPrivateKey, issuer: str, issuer_key: rsa.RSAPrivateKey
) -> x509.Certificate:
    now = datetime.now(timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    authority = subject == issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def make_certificates(folder: Path) -> Path:
    """Write a CA (`ca.crt`) and, for "server" and "client", certificate and key into `folder`."""
    folder.mkdir()
    keys = {name: rsa.generate_private_key(65537, 2048) for name in ("ca", "server", "client")}
    for name, key in keys.items():
        certificate = _certificate(name, key, "ca", keys["ca"])
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return folder
