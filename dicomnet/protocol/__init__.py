"""The protocol core: PS3.7 and PS3.8 without I/O, clock or thread."""
