"""Logto over HTTP: discovery, keys and OAuth endpoints."""
