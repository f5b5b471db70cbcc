"""The local authorization server: an issuer that behaves like Logto, and its endpoints."""
