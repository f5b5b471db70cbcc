"""A small API protected by Logto: what an application of yours may look like."""
