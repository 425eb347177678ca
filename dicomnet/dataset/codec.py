"""Data sets decoded and encoded: all that the rest of the package asks of pydicom.

This module is imported when it is used first: importing pydicom takes longer than many a transfer.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from dicomnet.dataset.part10 import DEFLATED, NATIVE, encoding_of
from dicomnet.errors import DataSetError, escape

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Dataset", "decode", "decode_file", "differ", "encode"]

_DEFERRED = 1024 * 1024  # longer values stay in their file until they are asked for
_INFLATED = 1024 * 1024 * 1024  # a few bytes can inflate to any number
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float and Pixel Data
_WORDS = frozenset({"OD", "OF", "OL", "OV", "OW", "UN"})  # pydicom does not swap the bytes of these


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    """Return the pydicom data set of encoded bytes. Raises `DataSetError`."""
    try:
        if transfer_syntax == DEFLATED:
            data = _inflate(data)
        dataset = _read(BytesIO(data), transfer_syntax, None)
        dataset.file_meta = _meta(transfer_syntax)
    except Exception as error:
        raise _undecodable("the data set", transfer_syntax, error) from error
    return dataset


def decode_file(descriptor: int, path: str, offset: int, transfer_syntax: str) -> Dataset:
    """Return the pydicom data set that begins at `offset` of an open file, which is closed then.

    Long values stay in the file until they are asked for; `path` is where pydicom will look for them.
    """
    try:
        with open(descriptor, "rb") as file:
            file.seek(offset)
            if transfer_syntax == DEFLATED:
                return decode(file.read(), transfer_syntax)
            dataset = _read(file, transfer_syntax, _DEFERRED)
        result = FileDataset(path, dataset, None, _meta(transfer_syntax), *encoding_of(transfer_syntax))
        result.set_original_encoding(*encoding_of(transfer_syntax), dataset.original_character_set)
    except DataSetError:
        raise
    except Exception as error:
        raise _undecodable(f"the data set of {path}", transfer_syntax, error) from error
    return result


def _read(file: BinaryIO, transfer_syntax: str, defer: int | None) -> Dataset:
    return read_dataset(file, *encoding_of(transfer_syntax), defer_size=defer)


def _meta(transfer_syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(transfer_syntax)
    return meta


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(data, _INFLATED)
    if inflater.unconsumed_tail:
        raise ValueError(f"it inflates to more than {_INFLATED} bytes")
    return data


def _undecodable(what: str, transfer_syntax: str, error: Exception) -> DataSetError:
    reason = escape(error) or type(error).__name__
    return DataSetError(f"{what} cannot be decoded as {escape(transfer_syntax)}: {reason}")


def differ(dataset: Dataset, original: Dataset) -> bool:
    """Tell whether a data set was changed since it was decoded, `original` being a fresh decode of it.

    What nobody touched is compared undecoded, so that elements which cannot be decoded do no harm.
    """
    if dataset.keys() != original.keys():
        return True
    for tag in dataset.keys():  # noqa: SIM118 - iterating a data set decodes it
        ours = dataset.get_item(tag, keep_deferred=True)
        if ours != original.get_item(tag, keep_deferred=True) and (ours.is_raw or ours != original[tag]):
            return True
    return False


def encode(dataset: Dataset, transfer_syntax: str, own_syntax: str) -> bytes:
    """Return a pydicom data set encoded.

    Groups 0000 and 0002 are no part of it and left out, unless there is nothing else: a command set.

    `own_syntax` is what its pixel data is in, "" where that is not known. Pixel data is never compressed or
    decompressed here, nor are bytes swapped that pydicom does not swap: `DataSetError` instead, as for
    everything that pydicom cannot write.
    """
    tags = dataset.keys()
    if tags and min(tags) < 0x00030000 <= max(tags):
        dataset = dataset[0x00030000:]
    _check(dataset, transfer_syntax, own_syntax)
    try:
        if 0x7FE00010 in dataset:
            dataset[0x7FE00010].is_undefined_length = transfer_syntax not in NATIVE  # PS3.5 A.4
        target = DicomBytesIO()
        target.is_implicit_VR, target.is_little_endian = encoding_of(transfer_syntax)
        write_dataset(target, dataset)
    except Exception as error:
        reason = escape(error) or type(error).__name__
        raise DataSetError(f"the data set cannot be encoded as {transfer_syntax}: {reason}") from error
    data = target.getvalue()
    if transfer_syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
    return data


def _check(dataset: Dataset, transfer_syntax: str, own_syntax: str) -> None:
    own = own_syntax or transfer_syntax
    if own == transfer_syntax:
        return
    if (own not in NATIVE or transfer_syntax not in NATIVE) and any(tag in dataset for tag in _PIXELS):
        raise DataSetError(
            f"the pixel data is in transfer syntax {escape(own)} and cannot be sent in "
            f"{escape(transfer_syntax)}: propose its own syntax, or convert it before with pydicom's "
            "compress() or decompress()"
        )
    if encoding_of(own).little != encoding_of(transfer_syntax).little and any(
        element.VR in _WORDS for element in dataset.iterall()
    ):
        raise DataSetError(
            "the data set holds binary values whose bytes would have to be swapped between "
            f"{escape(own)} and {escape(transfer_syntax)}; that is not done"
        )
