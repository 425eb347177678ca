"""One connection with at most one association on it: locks, reader role, time limits, and its end."""

from dicomnet.link.link import Handler, Link

__all__ = ["Handler", "Link"]
