"""The secure link: certificates and keys, cipher suites and profiles, and a TLS stream over OpenSSL.

This is the only package that imports OpenSSL. What it needs from the application (a key's password, a
verdict on a certificate) reaches it as callables that are passed down.
"""
