"""Groups on the gateway over a stand-in of a vLLM server, with keys, over real connections."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from finetune.contracts.adapter import AdapterDigests
from finetune.contracts.adapter_files import read_manifest, write_manifest
from finetune.contracts.io import digest_file, digest_text
from finetune.contracts.run import Home
from finetune.model.identity import read_identity
from finetune.model.loading import load_tokenizer
from serving.access.keys import KeyFile
from serving.access.scopes import Scope
from tests.e2e.gateways import FakeServer, ask, gateway_over, point
from tests.unit.serving.conftest import save_bare_adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    one = FakeServer()
    one.start()
    one.wait()
    yield one
    one.kill()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Adapters shop, of one group, and plans, of two."""
    root = tmp_path_factory.mktemp("home")
    (root / "served").mkdir()
    (root / "served" / "names.yaml").write_text("names: [{name: '*', groups: [board, internal]}]\n")
    tokenizer = load_tokenizer(tiny_base)
    for number, (name, visibility) in enumerate({"shop": ("internal",), "plans": ("board", "internal")}.items()):
        folder = save_bare_adapter(root / "adapters" / name, content=number)
        digests = AdapterDigests(
            weights=digest_file(folder / "adapter_model.safetensors"),
            chat_template=digest_text(tokenizer.chat_template),
            tokenizer=digest_file(tiny_base / "tokenizer.json"),
            dataset=digest_text("dataset"),
            recipe=digest_text("recipe"),
        )
        stated = {"base": read_identity(tiny_base), "digests": digests, "visibility": visibility}
        write_manifest(folder, read_manifest(folder).model_copy(update=stated))
    return root


@pytest.fixture(scope="module")
def as_groups(server: FakeServer, home: Path, tiny_base: Path) -> Iterator[Callable[..., httpx.Client]]:
    """A client with a key of these groups; of none: an admin's."""
    file = KeyFile.within(Home(home).served)

    def key(*groups: str) -> str:
        scopes = [Scope.INFER, Scope.LOAD, Scope.PROMOTE] if groups else [Scope.ADMIN]
        name = f"k{len(file.read())}"
        return file.create(name, scopes=scopes, adapters=["*"] if groups else [], groups=groups)[1]

    key()
    with gateway_over(tiny_base, home, [server.url], keys=Home(home)) as client:
        made: list[httpx.Client] = []

        def make(*groups: str) -> httpx.Client:
            headers = {"Authorization": f"Bearer {key(*groups)}"}
            made.append(httpx.Client(base_url=client.base_url, headers=headers, timeout=60))
            return made[-1]

        yield make
        for one in made:
            one.close()


def raw_answer(client: httpx.Client, name: str) -> bytes:
    """What comes back to a question to a name, but for what is another each time, and the name itself."""
    body = f'{{"model":"{name}","prompt":"q","max_tokens":4}}'
    lines = (
        "POST /v1/completions HTTP/1.1",
        f"Host: {client.base_url.host}:{client.base_url.port}",
        f"Authorization: {client.headers['Authorization']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        body,
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    kept = [line for line in answer.split(b"\r\n") if not line.lower().startswith((b"date:", b"x-request-id:"))]
    return b"\r\n".join(kept).replace(name.encode(), b"NAME")


def test_the_gateway_hides_what_a_key_may_not_see_and_asks_no_server_for_it(as_groups, server):
    admin, one, both = as_groups(), as_groups("internal"), as_groups("internal", "board")
    assert point(admin, "shop", "shop").status_code == point(admin, "plans", "plans").status_code == 200
    events = server.seen["events"]
    hidden, absent = raw_answer(one, "plans"), raw_answer(one, "plums")
    assert hidden == absent and hidden.startswith(b"HTTP/1.1 404 ")
    assert "plans" not in one.get("/v1/models").text + one.get("/v1/adapters").text
    assert server.seen["events"] == events
    assert ask(one, "shop").status_code == ask(both, "plans").status_code == ask(both, "shop").status_code == 200
    taken, free = point(one, "plans", "shop"), point(one, "plums", "shop")
    assert taken.status_code == 403 and taken.content == free.content.replace(b"plums", b"plans")
    assert point(admin, "shop", "plans").status_code == 200
    assert ask(one, "shop").status_code == 404 and ask(both, "shop").status_code == 200
    assert admin.post("/v1/adapters/rollback", json={"alias": "shop"}).status_code == 200
    assert ask(one, "shop").status_code == 200
