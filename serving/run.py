"""Start and stop the server: in this process for the demo and for tests, or in the foreground for the command line."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError, MachineError
from finetune.contracts.run import Home
from finetune.terminal.output import note
from serving.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from finetune.contracts.trust import TrustFile
    from serving.access.access import Access
    from serving.access.names import NameRules
    from serving.adapters.desired import StateFile
    from serving.adapters.registry import AdapterRegistry
    from serving.adapters.store import AdapterStore
    from serving.api.votes import Keep
    from serving.engines.base import Engine
    from serving.engines.yielding import YieldingEngine

START_SECONDS = 30.0
BACKLOG = 128


@dataclass(frozen=True)
class PreparedServer:
    """A server whose port is taken and whose base is loaded; models are the names it will answer to.

    is_open: no key is needed.
    """

    server: "uvicorn.Server"
    listener: socket.socket
    url: str
    models: tuple[str, ...]
    is_open: bool = True


@dataclass(frozen=True)
class Replicas:
    """vLLM servers at addresses, started with base; copies is a folder that they see too, where adapters are put."""

    base: Path
    addresses: tuple[str, ...]
    copies: Path

    def load(self, settings: ServerSettings, *, port: int) -> "Engine":
        """The engine over them, for the gateway at port; see load_replicas."""
        from serving.engines.vllm import load_replicas

        return load_replicas(self.base, settings, addresses=self.addresses, copies=self.copies / str(port))


@contextlib.contextmanager
def running_server(
    base: Path,
    adapters: Path,
    *,
    port: int = 0,
    quantization: Quantization = Quantization.NF4,
    settings: ServerSettings | None = None,
    home: Home | None = None,
) -> Iterator[str]:
    """Serve the base in a folder from a thread of this process while the block runs; yields http://127.0.0.1:PORT.

    The OpenAI client's base_url is that plus "/v1". adapters is the folder that may be loaded from; port 0 takes a free
    one; home is that of prepared_server. Raises BaseModelError, or MachineError when the port is taken.
    """
    settings = (settings or ServerSettings()).model_copy(update={"port": port})
    prepare = prepared_server(base, adapters, settings=settings, quantization=quantization, home=home)
    with prepare as prepared, serve_in_thread(prepared):
        yield prepared.url


@contextlib.contextmanager
def serve_in_thread(prepared: PreparedServer) -> Iterator[None]:
    """Answer in a thread of this process while the block runs; it has ended when the block has."""
    thread = threading.Thread(
        target=prepared.server.run, kwargs={"sockets": [prepared.listener]}, name="server", daemon=True
    )
    thread.start()
    try:
        _wait_until(lambda: prepared.server.started, thread)
        yield
    finally:
        prepared.server.should_exit = True
        thread.join()


@contextlib.contextmanager
def prepared_server(
    base: Path | Replicas,
    adapters: Path,
    *,
    settings: ServerSettings,
    quantization: Quantization,
    served: Sequence[tuple[str, Path]] = (),
    embedding_on_host: bool = False,
    copies: Path | None = None,
    home: Home | None = None,
) -> Iterator[PreparedServer]:
    """Take the port, load the base and the adapters (name, folder), and build the application.

    base is a folder, which this process runs, or servers that do; what says how to load it is for the folder alone.
    home is where what is served is kept for the next start at this port over this base, with copies of the adapters,
    votes, whom names are for, and the keys without which nobody is let in, and whose jobs the card is shared with; None
    shares with nobody, has no keys, and begins anew as port 0 does. embedding_on_host and copies, where 4-bit copies of
    large bases are kept, are those of load_engine. The port is taken first: a busy one must not cost the minutes that a
    large base takes to load. Raises AdapterError for an adapter that is refused, KeyFileError for damaged keys,
    RecipeError for a trust policy or rules of names with mistakes.
    """
    with contextlib.closing(listen(settings)) as listener, contextlib.ExitStack() as stack:
        from serving.access.access import Access
        from serving.access.names import DEFAULT_RULES, load_name_rules
        from serving.app import create_app
        from serving.card import CardWatch, server_hold
        from serving.waiting import wait_for_card

        trust, rules = _trust(home, settings), load_name_rules(home.served) if home else DEFAULT_RULES
        # a start that comes to nothing leaves nothing behind, not even a line in the log
        _check_there(base)
        access = Access()
        if home:
            port = listener.getsockname()[1]
            access = stack.enter_context(Access.within(home.served, port=port, audit_required=settings.audit_required))
        engine: Engine
        hold = own = None
        if isinstance(base, Replicas):
            engine = base.load(settings, port=listener.getsockname()[1])
        else:
            if home:
                hold = stack.enter_context(server_hold(home.cards, settings, url=_url(listener)))
                wait_for_card(hold, listener, settings, access=access)
            engine = own = _own_engine(base, settings, quantization, embedding_on_host=embedding_on_host, copies=copies)
        stack.enter_context(contextlib.closing(engine))
        registry, store = _registry(engine, adapters, settings, home=home, trust=trust, rules=rules)
        asyncio.run(_load_all(registry, served))
        _note_misfits(registry, rules, access)
        watch = CardWatch(hold, own, registry) if hold and own and settings.yields_card else None
        app = create_app(
            engine,
            store,
            settings=settings,
            registry=registry,
            access=access,
            keep_vote=_keep_vote(home),
            watch=watch,
        )
        models = (registry.base_name, *(adapter.name for adapter in registry.served))
        yield PreparedServer(server_of(app, settings), listener, _url(listener), models, is_open=access.is_open)


def _check_there(base: Path | Replicas) -> None:
    if isinstance(base, Path) and not (base / "config.json").is_file():
        raise BaseModelError(f"There is no base model in {base}.", "Name its folder, or one of `finetune base list`.")


def serve(prepared: PreparedServer) -> None:
    """Answer in this thread until Ctrl-C, which is how a server is meant to end, or a signal to terminate."""
    with contextlib.suppress(KeyboardInterrupt):
        prepared.server.run(sockets=[prepared.listener])


def listen(settings: ServerSettings) -> socket.socket:
    """A listening socket on the settings' address. Raises MachineError when the port is taken or not allowed."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # with the protocol named, asyncio sends each piece of an answer at once; else the system may keep it for 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise MachineError(
            f"Port {settings.port} of {settings.host} cannot be used: {error.strerror}.",
            "Stop what listens there, or choose another port with --port (0 takes a free one).",
        ) from error
    return listener


def server_of(app: "FastAPI", settings: ServerSettings) -> "uvicorn.Server":
    """What answers with app."""
    import uvicorn

    from serving.connection import BoundedConnection

    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return uvicorn.Server(config)


def _own_engine(
    base: Path, settings: ServerSettings, quantization: Quantization, *, embedding_on_host: bool, copies: Path | None
) -> "YieldingEngine":
    from serving.engines.transformers import load_engine
    from serving.engines.yielding import YieldingEngine

    return YieldingEngine(
        partial(
            load_engine,
            base,
            settings,
            quantization=quantization,
            embedding_on_host=embedding_on_host,
            copies=copies,
        )
    )


def _registry(
    engine: "Engine",
    adapters: Path,
    settings: ServerSettings,
    *,
    home: Home | None,
    trust: "TrustFile | None",
    rules: "NameRules",
) -> tuple["AdapterRegistry", "AdapterStore"]:
    from serving.adapters.registry import AdapterRegistry
    from serving.adapters.store import AdapterStore

    store = AdapterStore(
        adapters,
        max_rank=settings.max_rank,
        max_bytes=settings.max_adapter_bytes,
        served=home.served if home else None,
        trust=trust,
    )
    registry = AdapterRegistry(
        engine,
        store,
        max_adapters=settings.max_adapters,
        drain_seconds=settings.drain_seconds,
        state=_state_file(home, settings.port, engine.description.identity.digest),
        rules=rules,
    )
    return registry, store


async def _load_all(registry: "AdapterRegistry", served: Sequence[tuple[str, Path]]) -> None:
    for problem in await registry.restore():
        note(f"Not served as before: {problem}")
    for name, folder in served:
        await registry.load_folder(name, folder, move=True)
    await registry.drained()


def _note_misfits(registry: "AdapterRegistry", rules: "NameRules", access: "Access") -> None:
    """What was served before there were keys, or is named at the start, is not asked whom its name is for."""
    for alias in registry.served:
        if not access.is_open and not rules.fits(alias.name, alias.current.manifest.visibility):
            note(
                f"{alias.name}: its adapter is hidden from some who may take that name, and who tries learns that it "
                "is taken. Say in served/names.yaml whom it is for, and start again."
            )


def _state_file(home: Home | None, port: int, base_digest: str) -> "StateFile | None":
    from serving.adapters.desired import StateFile

    if home is None or port == 0:
        return None
    home.served.mkdir(parents=True, exist_ok=True)
    return StateFile(home.served / f"{port}-{base_digest[:12]}.json")


def _trust(home: Home | None, settings: ServerSettings) -> "TrustFile | None":
    """Whose adapters are taken; a policy that is wrong at the start is told at once."""
    from finetune.contracts.trust import TrustFile

    path = settings.trust or (home.trust if home else None)
    if path is None:
        return None
    found = TrustFile(path, required=settings.trust is not None)
    found.read()
    return found


def _keep_vote(home: Home | None) -> "Keep | None":
    from finetune.contracts.votes import append_vote

    return partial(append_vote, home.votes) if home else None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_until(started: Callable[[], bool], thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not started():
        if not thread.is_alive() or time.monotonic() > deadline:
            raise MachineError("The server did not start.", "Its messages above say why.")
        time.sleep(0.01)
