"""Speak to a running server from the command line, with the standard library alone and never through a proxy."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from finetune.contracts.errors import AdapterError, MachineError, PlatformError, UsageError
from serving.errors import AccessError

# A load digests, reads and measures the adapter, and waits for the answers that are running
TIMEOUT_SECONDS = 600.0
KEY_VARIABLE = "FINETUNE_API_KEY"
START_HINT = "Start a server with `finetune serve start`, or name it with --url."


def call(
    url: str,
    path: str,
    *,
    expects: str,
    body: Mapping[str, object] | None = None,
    key_file: Path | None = None,
) -> dict[str, Any]:
    """GET path of the server at url, or POST body to it; the JSON document of the answer, which has the field expects.

    key_file holds the key to ask with; None: that of FINETUNE_API_KEY, or none where it is not set. Raises UsageError
    for a URL or a key that is none, MachineError when no server of this project answers, AccessError when the key does
    not allow it, and AdapterError with the server's words when it refuses.
    """
    if urllib.parse.urlsplit(url).scheme != "http":
        raise UsageError(f"--url {url} is no http:// address.", "Give it as http://127.0.0.1:8000.")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **_authorization(key_file)}
    request = urllib.request.Request(url.rstrip("/") + path, data=data, headers=headers)  # noqa: S310  checked above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return _document(response.read(), url, expects=expects)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, url) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MachineError(f"No server answers at {url}: {getattr(error, 'reason', error)}.", START_HINT) from error


def _authorization(key_file: Path | None) -> dict[str, str]:
    try:
        key = os.environ.get(KEY_VARIABLE, "") if key_file is None else key_file.read_text()
    except (OSError, ValueError) as error:
        raise UsageError(f"--key-file {key_file} cannot be read.", "Give the file that holds the key.") from error
    key = key.strip()
    if not key and key_file is None:
        return {}
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        place = KEY_VARIABLE if key_file is None else key_file
        raise UsageError(f"{place} holds no key.", "`finetune serve key create` makes one.")
    return {"Authorization": f"Bearer {key}"}


def _refusal(error: urllib.error.HTTPError, url: str) -> PlatformError:
    details = _document(error.read(), url, expects="error")["error"]
    message = details.get("message") if isinstance(details, dict) else None
    text = f"The server at {url} refused: {message or f'HTTP status {error.code}'}"
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return MachineError(text, "Its log says why.")
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AccessError(text, f"Give another key: export {KEY_VARIABLE}=..., or --key-file PATH.")
    return AdapterError(text, "`finetune serve list` shows what is served.")


def _document(content: bytes, url: str, *, expects: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict) or expects not in document:
        raise MachineError(f"What answers at {url} is not this project's server.", START_HINT)
    return document
