"""finetune data forget --apply, from the command line to an endpoint that answers no more for what was withdrawn."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import finetune.cli.forgetting
from data_pipelines.config import PipelineConfig
from finetune.cli.main import run
from finetune.contracts.adapter_files import read_manifest, write_manifest
from finetune.contracts.chain import Chain
from finetune.contracts.errors import AdapterError
from finetune.contracts.run import Home
from finetune.release.receipt import Receipt
from serving.adapters.store import AdapterStore
from serving.app import create_app
from serving.client import call
from serving.run import PreparedServer, listen, serve_in_thread
from serving.settings import ServerSettings
from tests.unit.data_pipelines.building import build_from
from tests.unit.data_pipelines.conftest import save_shop
from tests.unit.data_pipelines.lineage.test_lineage import save_run
from tests.unit.serving.conftest import FakeEngine, save_bare_adapter


@dataclass(frozen=True)
class Site:
    """A home with a dataset of one repository, a run and two adapters: one that saw it, and one that only may have."""

    home: Home
    dataset: Path
    saw: str
    may: str

    def forget(self, *words: object) -> int:
        given = ["data", "forget", self.dataset, "--home", self.home.root, *words]
        return run([str(word) for word in given])

    def receipts(self) -> list[Receipt]:
        found = sorted(self.home.withdrawals.glob("*/receipt.json"))
        return [Receipt.model_validate_json(path.read_bytes()) for path in found]


def save_trained(home: Home, *, rank: int, digest: str, run_id: str) -> str:
    folder = save_bare_adapter(home.adapters / "new", rank=rank)
    manifest = read_manifest(folder)
    digests = manifest.digests.model_copy(update={"dataset": digest})
    manifest = write_manifest(folder, manifest.model_copy(update={"digests": digests, "run_id": run_id}))
    folder.rename(home.adapters / manifest.adapter_id)
    return manifest.adapter_id


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = Home(tmp_path / "home")
    dataset = home.datasets / "shop"
    builder = save_shop(tmp_path / "shop")
    config = PipelineConfig.model_validate({"sources": [{"path": builder.path}], "run": {"workers": 1}})
    digest = build_from(config, dataset, data=home.data).content_digest
    save_run(home, "run-1", digest=digest, dataset=dataset)
    save_run(home, "run-2", digest="0" * 64, dataset=dataset)
    saw = save_trained(home, rank=8, digest=digest, run_id="run-1")
    return Site(home, dataset, saw, save_trained(home, rank=4, digest="0" * 64, run_id="run-2"))


@pytest.fixture
def endpoint(site: Site) -> Iterator[str]:
    """A server over the home's adapters folder, both adapters on it."""
    settings = ServerSettings(port=0)
    listener = listen(settings)
    app = create_app(FakeEngine(), AdapterStore(site.home.adapters, max_rank=64), settings=settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    prepared = PreparedServer(uvicorn.Server(uvicorn.Config(app, log_level="warning")), listener, url, ())
    with serve_in_thread(prepared):
        for name, adapter in (("ours", site.saw), ("old", site.may)):
            call(url, "/v1/load_lora_adapter", expects="adapter", body={"lora_name": name, "lora_path": adapter})
        yield url
    listener.close()


CANAL = ("--path", "shop:shop/canal.py")


def served(url: str) -> list[str]:
    return [card["name"] for card in call(url, "/v1/adapters", expects="available")["data"]]


def test_what_learned_from_it_is_withdrawn_with_a_receipt(
    site: Site, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--apply", "--only-certain", "--endpoint", endpoint, "--as", "ada", "--yes", "--json")
    assert site.forget(*CANAL, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["adapter_id"] for one in document["withdrawn"]] == [site.saw]
    assert served(endpoint) == ["old"]
    with pytest.raises(AdapterError, match=f"{site.saw} was withdrawn on .* by ada: forgotten: paths"):
        call(endpoint, "/v1/load_lora_adapter", expects="adapter", body={"lora_name": "ours", "lora_path": site.saw})
    (receipt,) = site.receipts()
    assert (receipt.asked.who, receipt.left, receipt.endpoint) == ("ada", (site.may,), endpoint)
    assert receipt.found.rows > 0 and receipt.found.runs == {
        "run-1": receipt.found.dataset_digest,
        "run-2": "0" * 64,
    }
    assert receipt.dataset_after == document["digest_after"] and receipt.ended_at is not None
    assert receipt.withdrawn[0].unloaded == "ours"
    assert any(line.startswith("finetune train RECIPE") for line in receipt.to_do)
    assert not any(site.saw in line for line in receipt.to_do), "it is withdrawn already"
    text = (Path(document["receipt"]).parent / "receipt.txt").read_text()
    assert site.saw in text and "stays on disk" in text and "no way back" in text
    ends = [entry.digest for entry in Chain(site.home.releases, notice=print).read() if entry.kind == "withdrawn"]
    assert ends == [receipt.withdrawn[0].entry]


def test_the_other_commands_say_that_it_was_withdrawn(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    home = ("--home", str(site.home.root))
    assert site.forget(*CANAL, "--apply", "--yes") == 0
    capsys.readouterr()
    for command in (["adapter", "list"], ["adapter", "inspect", site.saw], ["adapter", "history"]):
        assert run([*command, *home]) == 0
        assert "withdrawn" in capsys.readouterr().out
    assert run(["data", "trace", str(site.dataset), *home]) == 0
    assert capsys.readouterr().out.count("withdrawn 2") == 2
    assert run(["adapter", "inspect", site.saw, *home, "--json"]) == 0
    assert "forgotten: paths shop:shop/canal.py" in json.loads(capsys.readouterr().out)["withdrawn"]
    for command in (["evaluate", site.saw], ["adapter", "promote", site.saw], ["adapter", "export", site.saw]):
        more = ["--out", str(site.home.root / "out")] if "export" in command else []
        assert run([*command, *more, *home]) == 3
        assert f"{site.saw} was withdrawn" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["begin", "withdraw", "take_out", "write"])
def test_a_command_that_dies_is_finished_by_the_same_command(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """withdraw has its own moments: tests/unit/finetune/release/test_withdraw.py."""
    done = getattr(finetune.cli.forgetting, step)

    def dies(*args: Any, **options: Any) -> Any:
        done(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune.cli.forgetting, step, dies)
        assert site.forget(*CANAL, "--apply", "--yes") == 130
    assert site.forget(*CANAL, "--apply", "--yes") == 0
    receipts = site.receipts()
    assert len(receipts) == (2 if step == "write" else 1), "one that was ended is not gone on with"
    assert receipts[0].found.rows > 0 and receipts[0].ended_at is not None
    assert {one.adapter_id for one in receipts[0].withdrawn} == {site.saw, site.may}
    kinds = [entry.kind for entry in Chain(site.home.releases, notice=print).read()]
    assert sorted(kinds) == ["withdrawing"] * 2 + ["withdrawn"] * 2


def test_nobody_is_withdrawn_unasked(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(site.home.root.rglob("*"))
    assert site.forget(*CANAL, "--apply") == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "readline", lambda: "no\n", raising=False)
    assert site.forget(*CANAL, "--apply") == 0
    shown = capsys.readouterr()
    assert site.saw in shown.out and "Nothing was changed" in shown.err
    assert site.forget(*CANAL, "--endpoint", "http://127.0.0.1:1") == 2
    assert site.forget(*CANAL, "--apply", "--yes", "--endpoint", "http://127.0.0.1:1") == 4
    assert sorted(site.home.root.rglob("*")) == before
    monkeypatch.setattr(sys.stdin, "readline", lambda: "withdraw\n", raising=False)
    assert site.forget(*CANAL, "--apply") == 0
    assert "Withdrawn" in capsys.readouterr().out and len(site.receipts()) == 1


def test_a_dataset_that_would_be_empty_stays_and_its_adapters_are_withdrawn(site: Site) -> None:
    before = (site.dataset / "manifest.json").read_bytes()
    assert site.forget("--author", "ada@corp.io", "--apply", "--yes") == 0
    assert (site.dataset / "manifest.json").read_bytes() == before
    (receipt,) = site.receipts()
    assert receipt.dataset_after == "" and "would have no rows" in receipt.to_do[0]
    assert len(receipt.withdrawn) == 2
    written = "".join(path.read_text() for path in [*site.home.withdrawals.glob("*/*"), site.home.releases])
    assert "ada@corp.io" not in written, "who is to be forgotten is not named for ever"
