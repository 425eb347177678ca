"""Data sets: as bytes on the wire, as Part 10 files, and as pydicom data sets.

Everything but decoding works without pydicom, which is imported when a data set is decoded or encoded first.
"""

from dicomnet.dataset.dataset import DataSetLike, DicomDataSet, as_data_set

__all__ = ["DataSetLike", "DicomDataSet", "as_data_set"]
