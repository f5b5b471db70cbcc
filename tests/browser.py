"""A browser as a program: `python -m tests.browser alice URL` signs a user in, and follows the redirects.

It prints a line to standard output, as some browsers do.
"""

import re
import sys
from html import unescape
from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
_MOST_STEPS: Final = 12


def build_command(login: str) -> str:
    """Return the value of the variable `BROWSER` for which `webbrowser` signs this user in."""
    return f"{sys.executable} {__file__} {login} %s"


def browse(url: str, *, login: str) -> httpx.Response:
    """Sign a user in at a URL, by the pages of the local issuer or of oidc-provider; return the last response."""
    with httpx.Client(trust_env=False, timeout=10) as http:
        response = http.get(url)
        for _ in range(_MOST_STEPS):
            if response.is_redirect:
                response = http.get(urljoin(str(response.url), response.headers["Location"]))
                continue
            fields = _fill(response, login=login)
            if fields is None:
                break
            address = re.search(r'action="([^"]+)"', response.text)
            target = urljoin(str(response.url), unescape(address[1]) if address else "")
            parts = urlsplit(target)
            response = http.post(target, data=fields, headers={"Origin": f"{parts.scheme}://{parts.netloc}"})
        return response


def _fill(response: httpx.Response, *, login: str) -> dict[str, str | list[str]] | None:
    """Return the fields of the page's form; `None` if it has none."""
    text = response.text
    if "<form" not in text:
        return None
    fields: dict[str, str | list[str]] = {name: unescape(value) for name, value in _HIDDEN.findall(text)}
    if 'name="login"' in text:
        fields["login"] = login
    elif 'name="user"' in text:
        query = dict(parse_qsl(urlsplit(str(response.url)).query))
        fields |= {"user": login, "action": "allow", "grant": query.get("scope", "").split(" ")}
        if login == "nobody":
            fields["action"] = "cancel"
    return fields


if __name__ == "__main__":
    sys.stdout.write("Opening in existing browser session.\n")
    browse(sys.argv[2], login=sys.argv[1])
