"""finetune serve: the endpoint, and the adapters on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json
from serving.access.audit_command import audit
from serving.access.command import KeyFileOption
from serving.access.command import app as key_app

if TYPE_CHECKING:
    from finetune.contracts.adapter import Quantization
    from serving.run import PreparedServer

app = typer.Typer(
    help="Serve a base and its adapters on an OpenAI-compatible endpoint.", no_args_is_help=True, rich_markup_mode=None
)

app.add_typer(key_app, name="key")
app.command(
    "audit",
    epilog="Examples: `finetune serve audit --key editors --since 24h`, `finetune serve audit --verify --json`.",
)(audit)

DEFAULT_URL = "http://127.0.0.1:8000"
EMBEDDED = "embedded"
SERVER_LIBRARIES = ("fastapi", "httpx", "jwt", "llguidance", "openai", "prometheus_client", "threadpoolctl", "uvicorn")
Base = Annotated[
    str, typer.Argument(metavar="[BASE]", help="Folder of the base model, or its name in the home; or embedded.")
]
FirstAdapters = Annotated[
    list[str],
    typer.Option(
        "--adapter", metavar="NAME=ADAPTER", help="Serve this adapter (its id or folder) from the start; repeatable."
    ),
]
Url = Annotated[str, typer.Option("--url", envvar="FINETUNE_SERVE_URL", help="Address of the running server.")]
EmbeddingOnHost = Annotated[
    bool, typer.Option("--embedding-on-host", help="Keep the base's embedding in host memory. GPU only.")
]
AuditRequired = Annotated[
    bool, typer.Option("--audit-required", help="Answer nothing while the log of who asked what cannot be written.")
]
AuditPrompts = Annotated[
    bool, typer.Option("--audit-prompts", help="Keep what was asked in that log, as it was asked.")
]
KeepCard = Annotated[bool, typer.Option("--keep-card", help="Never leave the card to a training run of this home.")]
EngineKind = Annotated[
    str, typer.Option("--engine", metavar="here|vllm", help="What runs the base: this process, or vLLM servers.")
]
ReplicaUrls = Annotated[
    list[str], typer.Option("--replica", metavar="URL", help="A vLLM server that was started with BASE; repeatable.")
]
TrustFileOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="KEY.pem|POLICY.yaml",
        help="Whose adapters are taken. None: as trust.yaml of the home says, if there.",
    ),
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free port.")]
Quantized = Annotated[
    str, typer.Option("--quantization", metavar="nf4|none", help="How the base is held: 4-bit, or 16-bit.")
]
AdapterName = Annotated[str, typer.Argument(metavar="NAME", help="What requests will give as `model`.")]


@app.command(
    "start",
    epilog="Examples: `finetune serve start`, "
    "`finetune serve start /srv/models/qwen3.5-4b --adapter shop=shop-3f9a1c2b4d5e --port 8080`.",
)
def start(
    base: Base = EMBEDDED,
    adapter: FirstAdapters = [],  # noqa: B006
    port: Port = 8000,
    quantization: Quantized = "nf4",
    embedding_on_host: EmbeddingOnHost = False,
    base_cache: Annotated[
        bool, typer.Option(help="Keep a 4-bit copy of a base above 4 GB in the home, for the next start.")
    ] = True,
    keep_card: KeepCard = False,
    engine: EngineKind = "here",
    replica: ReplicaUrls = [],  # noqa: B006
    audit_required: AuditRequired = False,
    audit_prompts: AuditPrompts = False,
    trust: TrustFileOption = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Serve on 127.0.0.1 until Ctrl-C. With --json the document is printed once the server is ready.

    Adapters that were served at this port over this base before are served again, unless the port is 0. While a
    training run or an evaluation of the same home wants the card, the server leaves it, and comes back by itself.
    """
    from finetune.contracts.run import Home
    from finetune.terminal.output import note
    from serving.settings import ServerSettings

    kind = _quantization(quantization)
    place = Home(home)
    _check_engine(engine, replica)
    adapters = place.adapters
    served = [_named_adapter(text, adapters) for text in adapter]
    _need_server_libraries()
    from serving.run import Replicas, prepared_server, serve

    folder = _base_folder(base, place.bases)
    note(f"Reading the base {folder}" if replica else f"Loading the base {folder}")
    settings = ServerSettings(
        port=port,
        yields_card=not keep_card,
        traffic_log=place.served / f"{port}-traffic.jsonl",
        audit_required=audit_required,
        audit_prompts=audit_prompts,
        trust=trust,
    )
    prepare = prepared_server(
        Replicas(folder, tuple(replica), place.replicas) if replica else folder,
        adapters,
        settings=settings,
        quantization=kind,
        served=served,
        embedding_on_host=embedding_on_host,
        copies=place.bases if base_cache else None,
        home=place,
    )
    with prepare as prepared:
        _tell(prepared, adapters, as_json=json)
        serve(prepared)
    note("Stopped.")


@app.command(
    "load",
    epilog="Examples: `finetune serve load shop shop-3f9a1c2b4d5e`, "
    "`finetune serve load shop .finetune/adapters/shop-3f9a1c2b4d5e --url http://127.0.0.1:8080`.",
)
def load(
    name: AdapterName,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Its id, or its folder in the adapters folder.")],
    url: Url = DEFAULT_URL,
    key_file: KeyFileOption = None,
    json: Json = False,
) -> None:
    """Serve an adapter of the running server under a name: verified, probed, and only then served.

    A name that stands for another adapter moves to this one between two requests; `finetune serve rollback` goes back.
    """
    from finetune.terminal.output import emit
    from serving.client import call

    # The server has a working folder of its own, so a path goes there in full
    path = str(Path(adapter).resolve()) if Path(adapter).is_dir() else adapter
    answer = call(
        url, "/v1/adapters/alias", expects="adapter", body={"alias": name, "adapter": path}, key_file=key_file
    )
    if answer["status"] == "waiting":
        text = (
            f"{answer['adapter']['adapter_id']} will be served as {name} at {url}/v1 when the server has its card back."
        )
    else:
        text = _served_text(answer["adapter"], url)
    emit(answer, as_json=json, text=text)


@app.command(
    "rollback",
    epilog="Examples: `finetune serve rollback shop`, "
    "`finetune serve rollback shop --url http://127.0.0.1:8080 --json`.",
)
def rollback(name: AdapterName, url: Url = DEFAULT_URL, key_file: KeyFileOption = None, json: Json = False) -> None:
    """Let a name stand for the adapter that it stood for before, at once; twice comes back."""
    from finetune.terminal.output import emit
    from serving.client import call

    answer = call(url, "/v1/adapters/rollback", expects="adapter", body={"alias": name}, key_file=key_file)
    emit(answer, as_json=json, text=_served_text(answer["adapter"], url))


@app.command(
    "unload",
    epilog="Examples: `finetune serve unload shop`, `finetune serve unload shop --url http://127.0.0.1:8080 --json`.",
)
def unload(name: AdapterName, url: Url = DEFAULT_URL, key_file: KeyFileOption = None, json: Json = False) -> None:
    """Stop serving an adapter; answers that are running end with it."""
    from finetune.terminal.output import emit
    from serving.client import call

    emit(
        call(url, "/v1/unload_lora_adapter", expects="name", body={"lora_name": name}, key_file=key_file),
        as_json=json,
        text=f"{name} is no longer served at {url}/v1.",
    )


@app.command(
    "list", epilog="Examples: `finetune serve list`, `finetune serve list --url http://127.0.0.1:8080 --json`."
)
def list_served(url: Url = DEFAULT_URL, key_file: KeyFileOption = None, json: Json = False) -> None:
    """List what the running server answers to, and what it could load."""
    from finetune.terminal.output import emit, table
    from serving.client import call

    models = call(url, "/v1/models", expects="data", key_file=key_file)["data"]
    adapters = call(url, "/v1/adapters", expects="available", key_file=key_file)
    rows = [(row["id"], row["root"], row["parent"] or "") for row in models]
    text = table(rows, header=("model", "is", "over"))
    served = {row["root"] for row in models}
    kept = [row for row in adapters["versions"] if row["adapter_id"] not in served]
    if kept:
        text += "\n\nHeld beside them: " + ", ".join(f"{row['adapter_id']} ({row['state']})" for row in kept)
    # a server that was started before an upgrade of this program does not tell it
    waiting_cards = adapters.get("waiting", [])
    if waiting_cards:
        text += "\n\nWhen the server has its card back: "
        text += ", ".join(f"{row['name']} is {row['adapter_id']}" for row in waiting_cards)
    held = {row["adapter_id"] for row in adapters["versions"]}
    waiting = [name for name in adapters["available"] if name not in held]
    if waiting:
        text += "\n\nNot served, in the adapters folder: " + ", ".join(waiting)
    emit({"url": url, "models": models, **adapters}, as_json=json, text=text)


def _tell(prepared: "PreparedServer", adapters: Path, *, as_json: bool) -> None:
    from finetune.terminal.output import emit, note

    if prepared.is_open:
        note("This home has no keys: who reaches the port may do everything. `finetune serve key create` makes one.")
    text = f"Serving {', '.join(prepared.models)} at {prepared.url}/v1; Ctrl-C stops.\n  adapters folder  {adapters}"
    emit({"url": prepared.url, "models": list(prepared.models)}, as_json=as_json, text=text)


def _served_text(card: dict[str, Any], url: str) -> str:
    before = f" Before it was {card['previous']}." if card["previous"] else ""
    return f"{card['adapter_id']} is served as {card['name']} over {card['base']} at {url}/v1.{before}"


def _quantization(text: str) -> "Quantization":
    from finetune.contracts.adapter import Quantization
    from finetune.contracts.errors import UsageError

    try:
        return Quantization(text)
    except ValueError as error:
        raise UsageError(f"--quantization {text} is not known.", "Give nf4 or none.") from error


def _check_engine(engine: str, addresses: list[str]) -> None:
    from finetune.contracts.errors import UsageError

    if engine not in ("here", "vllm"):
        raise UsageError(f"--engine {engine} is not known.", "Give here or vllm.")
    if (engine == "vllm") != bool(addresses):
        raise UsageError(
            "--engine vllm and --replica go together.",
            "`finetune serve start BASE --engine vllm --replica http://127.0.0.1:8001`.",
        )


def _named_adapter(text: str, adapters: Path) -> tuple[str, Path]:
    """NAME=ADAPTER as the name and the folder: an id in the adapters folder, or any folder of this machine."""
    from finetune.contracts.errors import AdapterError, UsageError

    name, found, place = text.partition("=")
    if not found or not name or not place:
        raise UsageError(f"--adapter {text} is not NAME=ADAPTER.", "Give it as --adapter shop=shop-3f9a1c2b4d5e.")
    for folder in (adapters / place, Path(place)):
        if folder.is_dir():
            return name, folder
    raise AdapterError(
        f"There is no adapter {place}, neither in {adapters} nor as a folder.",
        "`finetune adapter list` shows what there is.",
    )


def _base_folder(base: str, bases: Path) -> Path:
    """The embedded base, one of the home by its name, or a folder."""
    if base != EMBEDDED:
        from finetune.contracts.bases import find_base

        return find_base(bases, base) or Path(base)
    from importlib.resources import files

    return Path(str(files("finetune.embedded"))) / "base"


def missing_libraries() -> list[str]:
    """Modules of the extra serve that are not installed."""
    from importlib.util import find_spec

    return [name for name in SERVER_LIBRARIES if find_spec(name) is None]


def _need_server_libraries() -> None:
    from finetune.contracts.errors import MachineError

    if missing := missing_libraries():
        raise MachineError(
            f"Serving needs {' and '.join(missing)}, which this environment lacks.",
            "Install the extra: pip install 'finetune[serve]'.",
        )
