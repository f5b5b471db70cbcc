"""Example of a small API protected by Logto."""
