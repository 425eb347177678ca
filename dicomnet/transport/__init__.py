"""Bytes to and from a peer: deadlines, the stream boundary, TCP, and a scripted stream for tests."""
