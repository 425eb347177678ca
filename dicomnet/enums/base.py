"""The two kinds of number that the enumerations are made of."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NamedIntEnum", "OpenIntEnum"]


class NamedIntEnum(IntEnum):
    """A number that shows its name: `str()` and an empty format give the name, `f"{x:04X}"` the number.

    The same on every Python version; LEADTOOLS' enumerations convert to text in this way too.
    """

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec) if spec else str(self)


class OpenIntEnum(NamedIntEnum):
    """An enumeration of numbers that a peer chooses: an unknown one is a value, not a `ValueError`.

    A number without a member becomes a pseudo-member that keeps the number and is called, for example,
    "UNKNOWN_0xB007". It compares, hashes and pickles as the number does, but is not a singleton.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, int) and value >= 0:
            return cls.under_name(value, f"UNKNOWN_0x{value:04X}")
        return None

    @classmethod
    def under_name(cls, value: int, name: str) -> Self:
        """Return a pseudo-member with this number and name."""
        member = int.__new__(cls, value)
        member._name_ = name
        member._value_ = value
        return member

    def __reduce_ex__(self, protocol: object) -> tuple[type[Self], tuple[int]]:
        return type(self), (int(self),)  # Python 3.11.0 to 3.11.3 pickles and copies members by name
