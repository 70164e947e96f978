"""finetune serve key: who may ask the servers of a home, and for what."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from serving.access.keys import StoredKey
    from serving.access.scopes import Scope

app = typer.Typer(
    help="Create, list, rotate and revoke the keys of the endpoint.", no_args_is_help=True, rich_markup_mode=None
)

DURATION = re.compile(r"(?P<number>0|[1-9]\d{0,4})(?P<unit>[dh])", re.ASCII)
UNIT_SECONDS = {"d": 86_400, "h": 3_600}
KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="PATH", help="File with the key to ask with, if not that in FINETUNE_API_KEY."),
]
PerMinute = Annotated[
    int | None, typer.Option("--per-minute", min=1, help="Requests a minute that the key may make. None: any number.")
]
TokensPerDay = Annotated[
    int | None,
    typer.Option("--tokens-per-day", min=1, help="Tokens of prompts and answers in a day (UTC). None: any number."),
]
Concurrent = Annotated[
    int | None, typer.Option("--concurrent", min=1, help="Requests that may run at a time. None: any number.")
]
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Who or what the key is for.")]


@app.command(
    "create",
    epilog="Examples: `finetune serve key create editors --scope infer --adapter 'shop*' --expires 90d`, "
    "`finetune serve key create release --scope load,promote --adapter '*' --group internal --group payments`.",
)
def create(
    name: KeyName,
    scope: Annotated[
        str, typer.Option("--scope", metavar="SCOPES", help="infer, load, promote, admin; several with commas.")
    ],
    adapter: Annotated[
        list[str],
        typer.Option(
            "--adapter",
            metavar="PATTERN",
            help="Names and ids of adapters that exist for the key, * for any letters; none is the base alone.",
        ),
    ] = [],  # noqa: B006
    group: Annotated[
        list[str],
        typer.Option(
            "--group",
            metavar="NAME",
            help="Visibility of repositories whose adapters it may see; repeatable. None is internal alone.",
        ),
    ] = [],  # noqa: B006
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="Valid so long: 90d, 12h. None is until revoked.")
    ] = None,
    per_minute: PerMinute = None,
    tokens_per_day: TokensPerDay = None,
    concurrent: Concurrent = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Create a key and show it, this once. With the first, servers of the home let in nobody without a key."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, note
    from serving.access.keys import KeyFile
    from serving.access.scopes import DEFAULT_GROUP, Limits

    file = KeyFile.within(Home(home).served)
    scopes = _scopes(scope)
    _check(name, scopes, adapter)
    _check_groups(group, scopes)
    is_first = not file.read()
    lifetime = None if expires is None else seconds_of("--expires", expires)
    key, secret = file.create(
        name,
        scopes=scopes,
        adapters=adapter,
        groups=group or [DEFAULT_GROUP],
        valid_seconds=lifetime,
        limits=Limits(per_minute, tokens_per_day, concurrent),
    )
    if is_first:
        note("This is the first key: from now on, servers of this home let in nobody without one.")
    text = f"{_sentence(key)}\nIt is shown this once:\n\n{secret}"
    emit({**_row(key), "key": secret}, as_json=json, text=text)


@app.command(
    "list", epilog="Examples: `finetune serve key list`, `finetune serve key list --home /srv/finetune --json`."
)
def list_keys(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """List the keys that were ever made, without what is secret, and the tokens that each name used today (UTC)."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table
    from serving.access.identity import IDENTITY_NAME, SUBJECT_PREFIX
    from serving.access.keys import KeyFile
    from serving.access.usage import read_usage

    served = Home(home).served
    used = read_usage(served)
    keys = [{**_row(key), "tokens_today": used.get(key.name, 0)} for key in KeyFile.within(served).read()]
    columns = ("name", "id", "state", "scopes", "adapters", "groups", "created", "expires", "tokens today")
    rows = [_cells(row, columns) for row in keys]
    people = {name: tokens for name, tokens in used.items() if name.startswith(SUBJECT_PREFIX)}
    text = table(rows, header=columns) if rows else "There are no keys."
    if not rows and not (served / IDENTITY_NAME).exists():
        text += " Who reaches a server's port may do everything."
    if people:
        text += "\n\n" + table([(name, f"{people[name]:,}") for name in people], header=("signed in", "tokens today"))
    emit({"keys": keys, "people": people}, as_json=json, text=text)


@app.command(
    "revoke",
    epilog="Examples: `finetune serve key revoke editors`, `finetune serve key revoke release --home /srv/finetune`.",
)
def revoke(name: KeyName, home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """End a key at once, also on servers that run. Answers that are running go on to their end."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit
    from serving.access.keys import KeyFile

    key = KeyFile.within(Home(home).served).revoke(name)
    emit(_row(key), as_json=json, text=f"The key {name} is valid no more.")


@app.command(
    "rotate",
    epilog="Examples: `finetune serve key rotate editors`, `finetune serve key rotate release --overlap 12h --json`.",
)
def rotate(
    name: KeyName,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="TIME", help="How long the old one stays valid: 7d, 12h, 0h for not.")
    ] = "7d",
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Give a key a new secret and show it, this once. The old one stays valid until the overlap ends.

    The new one may do what the old one may, and is valid as long as that was, from now on.
    """
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit
    from serving.access.keys import KeyFile

    seconds = seconds_of("--overlap", overlap)
    key, secret = KeyFile.within(Home(home).served).rotate(name, overlap_seconds=seconds)
    old = (
        f"The one before is valid until {_moment(int(time.time()) + seconds)}."
        if seconds
        else "The one before is over."
    )
    text = f"{_sentence(key)}\n{old}\nThe new one is shown this once:\n\n{secret}"
    emit({**_row(key), "key": secret}, as_json=json, text=text)


def _cells(row: dict[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    limit = row["tokens_per_day"]
    shown = {**row, "tokens today": f"{row['tokens_today']:,}" + (f" of {limit:,}" if limit else "")}
    return tuple(
        ", ".join(shown[column]) if isinstance(shown[column], list) else shown[column] or "" for column in columns
    )


def _scopes(text: str) -> "frozenset[Scope]":
    from finetune.contracts.errors import UsageError
    from serving.access.scopes import Scope

    try:
        return frozenset(Scope(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"--scope {text}: {error}.", f"There are {', '.join(Scope)}.") from error


def _check(name: str, scopes: "frozenset[Scope]", adapters: list[str]) -> None:
    from finetune.contracts.errors import UsageError
    from serving.access.keys import KEY_NAME, MAX_PATTERNS, PATTERN
    from serving.access.scopes import Scope

    if not re.fullmatch(KEY_NAME, name, re.ASCII):
        raise UsageError(
            f"{name!r} is no name of a key.", "It has 1 to 64 letters, digits, dots, dashes and underscores."
        )
    wrong = [pattern for pattern in adapters if not re.fullmatch(PATTERN, pattern, re.ASCII)]
    if wrong or len(adapters) > MAX_PATTERNS:
        what = f"--adapter {wrong[0]!r} is no pattern" if wrong else f"There are {len(adapters)} patterns"
        hint = f"Up to {MAX_PATTERNS} of letters, digits, dots, dashes, underscores, * and ?, such as 'shop*'."
        raise UsageError(f"{what}.", hint)
    if adapters and Scope.ADMIN in scopes:
        raise UsageError("A key with the scope admin sees all adapters.", "Leave --adapter out, or name other scopes.")


def _check_groups(groups: list[str], scopes: "frozenset[Scope]") -> None:
    from finetune.contracts.errors import UsageError
    from serving.access.keys import GROUP, MAX_GROUPS
    from serving.access.scopes import Scope

    wrong = [group for group in groups if not re.fullmatch(GROUP, group)]
    if wrong or len(groups) > MAX_GROUPS:
        what = f"--group {wrong[0]!r} is no name of a group" if wrong else f"There are {len(groups)} groups"
        hint = f"Up to {MAX_GROUPS}, each written as `visibility` of a source in a pipeline file."
        raise UsageError(f"{what}.", hint)
    if groups and Scope.ADMIN in scopes:
        raise UsageError("A key with the scope admin is in all groups.", "Leave --group out, or name other scopes.")


def seconds_of(option: str, text: str) -> int:
    """90d or 12h in seconds. Raises UsageError, which names the option, for what is no time."""
    from finetune.contracts.errors import UsageError

    found = DURATION.fullmatch(text)
    if found is None or (option == "--expires" and int(found["number"]) == 0):
        raise UsageError(f"{option} {text} is no time.", "Give days or hours, such as 90d or 12h.")
    return int(found["number"]) * UNIT_SECONDS[found["unit"]]


def _sentence(key: "StoredKey") -> str:
    row = _row(key)
    adapters = ", ".join(row["adapters"]) or "no adapter, only the base (--adapter '*' is all)"
    until = f"until {row['expires']}" if row["expires"] else "until it is revoked"
    groups = "of any group" if row["groups"] == ["*"] else f"of the groups {', '.join(row['groups'])} and public alone"
    return f"The key {key.name} is for {', '.join(row['scopes'])}, sees {adapters}, {groups}, and is valid {until}."


def _row(key: "StoredKey") -> dict[str, Any]:
    caller = key.caller()
    return {
        "name": key.name,
        "id": key.id,
        "state": key.state(time.time()),
        "scopes": [scope.value for scope in key.scopes],
        "adapters": ["*"] if caller.sees_all else list(key.adapters),
        "groups": ["*"] if caller.is_admin else list(key.groups),
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_day": key.tokens_per_day,
        "max_concurrent": key.max_concurrent,
        "created": _moment(key.created_at),
        "expires": None if key.expires_at is None else _moment(key.expires_at),
    }


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
