"""From a token's text to its checked claims. Nothing here knows FastAPI."""
