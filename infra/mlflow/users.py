#!/usr/bin/env python3
"""Users of MLflow's server and what they may do, changed on the server's own machine: the proxy passes none of this on.

users.py list | add NAME | password NAME | remove NAME | grant NAME KIND ID LEVEL | revoke NAME KIND ID

KIND is experiment or registered_model, ID an experiment's number or a model's name, or * for all; LEVEL is READ, EDIT
or MANAGE. A new password is made here and printed once. MLFLOW_SOCKET and MLFLOW_ADMIN_PASSWORD_FILE say where the
server and the password of admin are; without the file it is asked for.
"""

import base64
import getpass
import http.client
import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

SOCKET = os.environ.get("MLFLOW_SOCKET", "/run/mlflow/server.sock")
PUBLIC_URL = "MLFLOW_PUBLIC_URL"
ADMIN_FILE = "MLFLOW_ADMIN_PASSWORD_FILE"


class Door(http.client.HTTPConnection):
    """A connection to the server's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


def ask(method: str, route: str, **body: str) -> dict[str, object]:
    """What the server answers to admin. Ends the program with the server's words when it refuses."""
    name = os.environ.get(PUBLIC_URL, "").removeprefix("https://")
    if not name:
        sys.exit(f"Set {PUBLIC_URL} as for the server, such as https://mlflow.example:8443.")
    path = os.environ.get(ADMIN_FILE)
    password = Path(path).read_text().splitlines()[0] if path else getpass.getpass("Password of admin: ")
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {
        "Host": name if ":" in name else f"{name}:443",
        "Authorization": f"Basic {login}",
        "Content-Type": "application/json",
    }
    door = Door("mlflow")
    try:
        door.request(method, f"/api/{route}", json.dumps(body) if body else None, headers)
        answer = door.getresponse()
        text = answer.read().decode()
    except OSError as error:
        sys.exit(f"MLflow's server does not answer at {SOCKET}: {error}.")
    finally:
        door.close()
    if answer.status != 200:
        sys.exit(f"MLflow's server refused ({answer.status}): {text}")
    return dict(json.loads(text))


def main(words: Sequence[str]) -> None:
    """Do what the words of the command line say."""
    match list(words):
        case ["list"]:
            for user in ask("GET", "2.0/mlflow/users/list")["users"]:  # type: ignore[attr-defined]
                sys.stdout.write(f"{user['username']}{'  (admin)' if user['is_admin'] else ''}\n")
        case ["add", name]:
            password = secrets.token_urlsafe(24)
            ask("POST", "2.0/mlflow/users/create", username=name, password=password)
            sys.stdout.write(f"{password}\n")
        case ["password", name]:
            password = secrets.token_urlsafe(24)
            ask("PATCH", "2.0/mlflow/users/update-password", username=name, password=password)
            sys.stdout.write(f"{password}\n")
        case ["remove", name]:
            ask("DELETE", "2.0/mlflow/users/delete", username=name)
        case ["grant", name, kind, resource, level]:
            right = {"username": name, "resource_type": kind, "resource_id": resource, "permission": level}
            ask("POST", "3.0/mlflow/users/permissions/grant", **right)
        case ["revoke", name, kind, resource]:
            right = {"username": name, "resource_type": kind, "resource_id": resource}
            ask("POST", "3.0/mlflow/users/permissions/revoke", **right)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
