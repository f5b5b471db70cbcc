"""Send the list of users to the API. Run it on a schedule, e.g. with cron; each run requests a token."""

import asyncio
import os

import httpx

from fastapi_logto.client import LogtoClient


async def send(names: list[str]) -> int:
    """Send the names, and return how many the API stored."""
    url = os.environ["API_URL"]
    client = LogtoClient(
        endpoint=os.environ["LOGTO_ENDPOINT"],
        client_id=os.environ["LOGTO_MACHINE_ID"],
        client_secret=os.environ["LOGTO_MACHINE_SECRET"],
    )
    # The token is sent to `url` only.
    auth = client.machine_auth(os.environ["LOGTO_AUDIENCE"], base_url=url, scopes=["write:user"])
    async with httpx.AsyncClient(base_url=url, auth=auth) as api:
        response = await api.put("/users", json=names)
        response.raise_for_status()
        stored: int = response.json()["stored"]
        return stored


if __name__ == "__main__":
    print(f"stored {asyncio.run(send(['alice', 'bob']))} users")
