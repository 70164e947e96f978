"""Speak to a running server from the command line, with the standard library alone and never through a proxy."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from finetune.contracts.errors import AdapterError, MachineError, UsageError

# A load digests, reads and measures the adapter, and waits for the answers that are running
TIMEOUT_SECONDS = 600.0
START_HINT = "Start a server with `finetune serve start`, or name it with --url."


def call(url: str, path: str, *, body: dict[str, str] | None = None) -> dict[str, Any]:
    """GET path of the server at url, or POST body to it; the JSON document of the answer.

    Raises UsageError for a URL that is none, MachineError when no such server answers, AdapterError with the server's
    words when it refuses.
    """
    if urllib.parse.urlsplit(url).scheme != "http":
        raise UsageError(f"--url {url} is no http:// address.", "Give it as http://127.0.0.1:8000.")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  the scheme was checked above
        url.rstrip("/") + path, data=data, headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return _document(response.read(), url)
    except urllib.error.HTTPError as error:
        with error:
            message = _document(error.read(), url).get("error", {}).get("message", f"HTTP status {error.code}")
        raise AdapterError(
            f"The server at {url} refused: {message}", "`finetune serve list` shows what is served."
        ) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise MachineError(f"No server answers at {url}: {getattr(error, 'reason', error)}.", START_HINT) from error


def _document(content: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise MachineError(f"What answers at {url} is not this project's server.", START_HINT)
    return document
