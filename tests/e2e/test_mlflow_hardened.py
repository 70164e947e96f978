"""MLflow as infra/mlflow sets it up, whole and real: what our client needs passes, and nothing else does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import record_evaluation
from finetune.contracts.errors import MachineError
from finetune.contracts.io import digest_file
from finetune.contracts.run import Home, RunLayout
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve
from finetune.release.promote import chain_of, roll_back
from finetune.tracking.base import RunCard
from finetune.tracking.mlflow import MlflowTracker
from finetune.tracking.server_store import ServerStore
from finetune.train.sft import train
from tests.e2e.mlflow_site import ADMIN, AS_NOBODY, INFRA, NGINX, POSTGRES, Site, ask_raw, mlflow_site, settings
from tests.e2e.test_playground import CHROMIUM, FLAGS
from tests.unit.finetune.release.conftest import MODEL, build_report, save_adapter, save_report
from tests.unit.finetune.release.test_promote import WISH, go
from tests.unit.finetune.release.test_withdraw import take

needed = {
    "PostgreSQL": bool(POSTGRES),
    "nginx": Path(NGINX).is_file(),
    "infra/mlflow/requirements.txt": all(map(find_spec, ("flask_wtf", "psycopg", "boto3"))),
    "moto": find_spec("moto") is not None,
}
missing = [name for name, there in needed.items() if not there]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")]

# what answers whoever asks; all of it says nothing of anybody's work
OPEN = re.compile(r"/health|/(ajax-)?api/3\.0/mlflow/server-info|/static-files/.*")
CLOSED = {401, 403, 404}
# what runs code, asks others, or changes who may do what
FORBIDDEN = re.compile(
    r"scorer|gateway|assistant|prompt|jobs|trace|webhook|/users/(?!current$)|role|mcp|mpu|invoke|demo"
)
CROOKED = (
    "/static-files/../graphql",
    "/static-files/%2e%2e/%2e%2e/api/2.0/mlflow/users/list",
    "/static-files/..%2f..%2f..%2f..%2fetc/passwd",
    "/static-files/%2e%2e%5c..%5cetc",
    "/api/2.0/mlflow-artifacts/artifacts/1/../../../../../../etc/passwd",
    "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/%2e%2e/etc/passwd",
    "/api/2.0/mlflow-artifacts/artifacts/%252e%252e/etc/passwd",
    "/get-artifact?path=../../etc/passwd&run_uuid=1",
    "/health/../api/2.0/mlflow/users/list",
    "//graphql/",
    "/api/2.0/mlflow/runs/get%00",
    "/api/2.0/mlflow/runs/get;/../../users/list",
    "/ajax-api/2.0/mlflow/users/current/../list",
)
# a word that stands for each kind of gap in a route
FILLING = "1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with mlflow_site(tmp_path_factory.mktemp("site")) as made:
        yield made


def users(site: Site, *words: str) -> str:
    """What infra/mlflow/users.py prints."""
    names = ("MLFLOW_PUBLIC_URL", "MLFLOW_SOCKET", "MLFLOW_ADMIN_PASSWORD_FILE")
    environment = {name: settings(site)[name] for name in names}
    asked = subprocess.run(
        [sys.executable, INFRA / "users.py", *words], env=environment, capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


@pytest.fixture(scope="module")
def trainer(site: Site) -> tuple[str, str]:
    """A user who may do nothing but what is made by themselves, and the password."""
    return "trainer", users(site, "add", "trainer")


@pytest.fixture(scope="module")
def stranger(site: Site) -> tuple[str, str]:
    return "stranger", users(site, "add", "stranger")


def sign_in(monkeypatch: pytest.MonkeyPatch, site: Site, login: tuple[str, str]) -> None:
    for name, value in zip(("USERNAME", "PASSWORD"), login, strict=True):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(site.ca))


def recorded(home: Home, site: Site, value: float) -> tuple[AdapterManifest, str]:
    """An adapter that a tracked run registered there, with a report that is recorded; and MLflow's id of the run."""
    manifest = save_adapter(home, value)
    layout = RunLayout(home.runs / manifest.run_id)
    layout.root.mkdir(parents=True)
    tracker = MlflowTracker(home, layout, server=site.url)
    run_id = tracker.start(RunCard(manifest.run_id, "shop", "shop", parameters={"lora.rank": "2"}, tags={"a": "b"}))
    for step in range(1, 4):
        tracker.metrics(step, {"train/loss": 1 / step})
    tracker.describe("# A run")
    tracker.register(manifest, home.adapters / manifest.adapter_id, MODEL)
    tracker.finish("finished")
    report = build_report(manifest)
    record_evaluation(chain_of(home), report, digest=digest_file(save_report(home, report) / "report.json"))
    return manifest, run_id


@pytest.fixture(scope="module")
def run_of_trainer(site: Site, trainer: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    """A home whose two adapters are registered at the site, the second promoted; and the second run's id there."""
    home = Home(tmp_path_factory.mktemp("trainers") / "home")
    with pytest.MonkeyPatch.context() as patch:
        sign_in(patch, site, trainer)
        first, _ = recorded(home, site, 1.0)
        second, run_id = recorded(home, site, 2.0)
        for manifest in (first, second):
            go(home, manifest)
    return home, run_id


def test_a_run_its_adapter_and_its_alias_pass_through_the_proxy(
    site: Site,
    trainer: tuple[str, str],
    run_of_trainer: tuple[Home, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    home, run_id = run_of_trainer
    sign_in(monkeypatch, site, trainer)
    client = ServerStore(site.url).client()
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED" and found.data.params == {"lora.rank": "2"}
    assert [point.step for point in client.get_metric_history(run_id, "train/loss")] == [1, 2, 3]
    assert found.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert client.get_model_version_by_alias(MODEL, "champion").version == "2"
    assert roll_back(home, "", wish=WISH).text("to") == "1"
    got = Path(client.download_artifacts(run_id, "adapter/adapter_model.safetensors", str(tmp_path)))
    (folder,) = home.adapters.glob(f"*{client.get_model_version(MODEL, '2').tags['weights_digest']}")
    assert got.read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert not home.tracking_database.exists()


def test_a_training_run_is_recorded_and_an_adapter_withdrawn_through_the_proxy(
    site: Site,
    trainer: tuple[str, str],
    unit: ModuleType,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sign_in(monkeypatch, site, trainer)
    dataset = unit.save_dataset(tmp_path / "dataset", unit.mixed_examples(8))
    path = unit.write_tiny_recipe(tmp_path, tiny_base, dataset)
    recipe = resolve(load_recipe(path, ["train.max_steps=2", f"track.server={site.url}"]))
    home, layout = Home(tmp_path / "home"), RunLayout(tmp_path / "home" / "runs" / "tiny-1")
    state = train(recipe, home, MlflowTracker(home, layout, server=recipe.track.server), run_id="tiny-1")
    assert "store failed" not in capsys.readouterr().err
    client = ServerStore(site.url).client()
    found = client.get_run(state.tracking_run_id)
    assert (found.info.status, found.data.params["train.max_steps"]) == ("FINISHED", "2")
    assert found.inputs.dataset_inputs[0].dataset.name
    assert {file.path for file in client.list_artifacts(found.info.run_id, "adapter")} > {"adapter/manifest.json"}
    with site.proxied() as closed:
        assert closed.get("/api/2.0/mlflow/runs/get", params={"run_id": found.info.run_id}).status_code == 401
    manifest, _ = recorded(home, site, 3.0)
    go(home, manifest)
    (told,) = take(home, manifest)
    assert told.aliases == f"{MODEL}@champion"


def test_who_has_no_right_sees_nothing_until_one_is_given(
    site: Site, stranger: tuple[str, str], run_of_trainer: tuple[Home, str]
) -> None:
    _, run_id = run_of_trainer
    with site.proxied(auth=stranger) as client:
        everything = {"max_results": "10"}
        assert "experiments" not in client.get("/api/2.0/mlflow/experiments/search", params=everything).json()
        models = client.get("/api/2.0/mlflow/registered-models/search", params=everything).json()
        assert not models.get("registered_models")
        run = {"run_id": run_id}
        of_trainer = [
            client.get("/api/2.0/mlflow/runs/get", params=run),
            client.get("/api/2.0/mlflow/artifacts/list", params=run),
            client.get("/get-artifact", params={"run_uuid": run_id, "path": "adapter/adapter_config.json"}),
            client.get("/api/2.0/mlflow/metrics/get-history", params={**run, "metric_key": "train/loss"}),
            client.get("/api/2.0/mlflow/registered-models/get", params={"name": MODEL}),
            client.post("/api/2.0/mlflow/runs/set-tag", json={**run, "key": "x", "value": "y"}),
            client.post("/api/2.0/mlflow/registered-models/alias", json={"name": MODEL, "alias": "a", "version": "1"}),
        ]
        assert {answer.status_code for answer in of_trainer} == {403}
        with site.proxied(auth=(ADMIN, site.admin_password)) as admin:
            root = admin.get("/api/2.0/mlflow/runs/get", params=run).json()["run"]["info"]
        experiment = {"experiment_ids": [root["experiment_id"]]}
        asked_otherwise = [
            client.post("/graphql", json={"query": GRAPHQL % run_id}),
            client.post("/api/2.0/mlflow/runs/search", json=experiment),
            client.post("/ajax-api/2.0/mlflow/logged-models/search", json=experiment),
            client.post("/ajax-api/2.0/mlflow/experiments/search-datasets", json=experiment),
            client.get("/api/2.0/mlflow/model-versions/search"),
            client.get("/ajax-api/2.0/mlflow/metrics/get-history-bulk", params={**run, "metric_key": "train/loss"}),
        ]
        assert all(root["run_name"] not in answer.text and MODEL not in answer.text for answer in asked_otherwise)
        path = root["artifact_uri"].removeprefix("mlflow-artifacts:")
        file = f"/api/2.0/mlflow-artifacts/artifacts{path}/adapter/adapter_config.json"
        assert client.get(file).status_code == client.put(file, content=b"mine").status_code == 403
        users(site, "grant", "stranger", "experiment", root["experiment_id"], "READ")
        assert root["run_name"] in client.post("/graphql", json={"query": GRAPHQL % run_id}).text
        assert client.get(file).status_code == client.get("/api/2.0/mlflow/runs/get", params=run).status_code == 200
        assert client.put(file, content=b"mine").status_code == 403
        users(site, "revoke", "stranger", "experiment", root["experiment_id"])
        assert client.get(file).status_code == 403


GRAPHQL = """query { mlflowGetRun(input: {runId: "%s"}) { run { info { runName } modelVersions { name } } } }"""


def routes(site: Site) -> list[tuple[str, str]]:
    """Every (method, path) that the server has, Flask's and FastAPI's, each gap filled with a word."""
    environment = {
        "PATH": os.environ["PATH"],
        "MLFLOW_AUTH_CONFIG_PATH": str(site.run / "users.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": site.admin_password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0" * 32,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PGPASSFILE": str(site.folder / "pgpass"),
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    lister = [*AS_NOBODY, sys.executable, "-c", LIST_ROUTES]
    asked = subprocess.run(lister, env=environment, capture_output=True, text=True, check=True, cwd=site.folder)
    return [(method, re.sub(r"<[^>]*>|\{[^}]*\}", FILLING, path)) for method, path in json.loads(asked.stdout)]


LIST_ROUTES = """
import json
from starlette.routing import Mount
from mlflow.server.auth import create_app
from mlflow.server import app as flask_app

def native(routes):
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from native(route.effective_candidates())
        elif not isinstance(route, Mount):
            yield from ((method, route.path) for method in route.methods)

flask = {(method, rule.rule) for rule in flask_app.url_map.iter_rules() for method in rule.methods}
print(json.dumps(sorted(flask.union(native(create_app().routes)))))
"""


@pytest.fixture(scope="module")
def all_routes(site: Site) -> list[tuple[str, str]]:
    found = routes(site)
    paths = {path for _, path in found}
    assert len(paths) > 200
    # one of each part, or the walk would miss a part in silence
    for path in (
        "/graphql",
        "/api/2.0/mlflow/runs/create",
        "/ajax-api/3.0/mlflow/scorer/invoke",
        "/api/2.0/mlflow-artifacts/artifacts/1",
        "/api/2.0/mlflow-artifacts/mpu/create/1",
        "/v1/traces",
    ):
        assert path in paths, path
    return found


def status_of(client: httpx.Client, method: str, path: str) -> int:
    """What a request without a password is answered with; 0 if the server works on it for too long instead."""
    try:
        return client.request(method, path, json={} if method in ("POST", "PUT", "PATCH") else None).status_code
    except httpx.TimeoutException:
        return 0


def test_no_route_answers_without_a_password(site: Site, all_routes: list[tuple[str, str]]) -> None:
    answered = []
    with site.direct(timeout=30) as direct, site.proxied(timeout=30) as proxied:
        for method, path in all_routes:
            for way, client in (("direct", direct), ("proxy", proxied)):
                status = status_of(client, method, path)
                if status not in CLOSED and not OPEN.fullmatch(path):
                    answered.append((way, method, path, status))
    assert answered == []


def test_the_proxy_passes_on_what_is_used_and_nothing_else(site: Site, all_routes: list[tuple[str, str]]) -> None:
    passed = set()
    with site.proxied(timeout=60) as client:
        for method, path in all_routes:
            if client.request(method, path).status_code != 404:
                passed.add(path)
    assert {path for path in passed if FORBIDDEN.search(path)} == set()
    assert len(passed) < 60 < len({path for _, path in all_routes}) / 4


def test_a_foreign_name_and_a_crooked_path_get_nowhere(site: Site) -> None:
    assert ask_raw(site, "GET", "/health") == 200
    for host in ("evil.example", f"evil.example:{site.port}", f"127.0.0.1.evil.example:{site.port}", "mlflow"):
        assert ask_raw(site, "GET", "/", host=host) == 421, host
    for host in (site.host, f"localhost:{site.port}"):
        assert ask_raw(site, "GET", "/", host=host) == 401, host
    with site.direct() as client:
        assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    for target in CROOKED:
        assert ask_raw(site, "GET", target) in (400, 401, 404), target


def test_paths_out_of_the_store_are_refused_to_admin_too(site: Site, run_of_trainer: tuple[Home, str]) -> None:
    _, run_id = run_of_trainer
    with site.direct(auth=(ADMIN, site.admin_password), timeout=60) as admin:
        for path in (
            "../../../../etc/passwd",
            "1/../../etc/passwd",
            "%2e%2e/%2e%2e/etc/passwd",
            "file:///etc",
        ):
            asked = [
                admin.get(f"/api/2.0/mlflow-artifacts/artifacts/{path}"),
                admin.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}", content=b"x"),
                admin.get("/get-artifact", params={"run_uuid": run_id, "path": path}),
                admin.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run_id, "path": path}),
            ]
            assert all(answer.status_code >= 400 for answer in asked), (path, [str(answer) for answer in asked])


def test_a_password_is_asked_for_and_is_nowhere_afterwards(
    site: Site,
    trainer: tuple[str, str],
    run_of_trainer: tuple[Home, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home, run_id = run_of_trainer
    for login in (("trainer", "not the password"), ("nobody", trainer[1])):
        sign_in(monkeypatch, site, login)
        place = ServerStore(site.url)
        client = place.client()
        with pytest.raises(MachineError, match="user or password is missing or wrong") as caught, place.errors():
            client.get_run(run_id)
        assert "MLFLOW_TRACKING_USERNAME" in caught.value.hint and trainer[1] not in str(caught.value)
    sign_in(monkeypatch, site, trainer)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    with pytest.raises(MachineError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        ServerStore(site.url).check(5)
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in caught.value.hint
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(home.root / "none.pem"))
    with pytest.raises(MachineError, match=r"none\.pem, which holds no certificate"):
        ServerStore(site.url).check(5)
    with site.proxied(auth=(ADMIN, site.admin_password)) as admin:
        shown = admin.get("/api/2.0/mlflow/runs/get", params={"run_id": run_id}).text
    logs = [site.said(name) for name in ("mlflow.log", "proxy.log", "postgres.log", "s3.log")]
    files = [path.read_bytes().decode(errors="replace") for path in home.root.rglob("*") if path.is_file()]
    assert len(files) > 5 and "trainer" in logs[1]
    for text in (shown, *logs, *files, *capfd.readouterr()):
        assert trainer[1] not in text and site.admin_password not in text


def test_files_lie_in_the_store_and_runs_in_the_database(site: Site, run_of_trainer: tuple[Home, str]) -> None:
    _, run_id = run_of_trainer
    counted = [POSTGRES[-1] / "psql", "--host", site.run, "--username", "mlflow", "--tuples-only", "--command"]
    reach = {"PATH": os.environ["PATH"], "PGPASSFILE": str(site.folder / "pgpass")}
    for database, question in (
        ("mlflow", f"select count(*) from runs where run_uuid = '{run_id}'"),
        ("mlflow_auth", "select count(*) from users where username = 'trainer'"),
    ):
        asked = subprocess.run([*counted, question, database], env=reach, capture_output=True, text=True, check=True)
        assert asked.stdout.strip() == "1", database
    (key,) = re.findall(r"secret_access_key = (\S+)", (site.folder / "s3_credentials").read_text())
    for secret, count in ((key, 5), ("x" * 40, 0)):
        words = [sys.executable, "-c", COUNT_FILES, site.s3_url, run_id, secret, str(site.folder / "s3_credentials")]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (found.returncode == 0, found.stdout.strip()) == (count > 0, str(count) if count else "")


COUNT_FILES = """
import configparser, sys
import boto3
kept = configparser.ConfigParser()
kept.read(sys.argv[4])
key = dict(aws_access_key_id=kept["default"]["aws_access_key_id"], aws_secret_access_key=sys.argv[3])
store = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", **key)
found = store.list_objects_v2(Bucket="mlflow", Prefix="artifacts/")["Contents"]
print(sum(f"/{sys.argv[2]}/artifacts/" in one["Key"] for one in found))
"""


@pytest.mark.skipif(not CHROMIUM.is_file(), reason="Debian's chromium is not installed")
def test_the_pages_work_in_a_browser_and_ask_no_other_host(site: Site, run_of_trainer: tuple[Home, str]) -> None:
    from playwright.sync_api import sync_playwright

    _, run_id = run_of_trainer
    login = {"username": ADMIN, "password": site.admin_password}
    hosts: set[str] = set()
    complaints: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        context = browser.new_context(ignore_https_errors=True, http_credentials=login)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add("/".join(request.url.split("/")[:3])))
        page.goto(f"{site.url}/#/experiments/1/runs/{run_id}")
        page.get_by_text("Finished").first.wait_for()
        page.get_by_text("A run").first.wait_for()
        page.evaluate("place => { location.hash = place }", f"/experiments/1/runs/{run_id}/artifacts")
        page.get_by_text("environment.txt").click()
        page.get_by_text("python:").first.wait_for()
        page.evaluate("place => { location.hash = place }", f"/models/{MODEL}")
        page.get_by_text("Version 2").first.wait_for()
        browser.close()
    assert {host for host in hosts if not host.startswith(("data:", "blob:"))} == {site.url}
    # of what the proxy leaves out, the pages ask for the assistant and the gateway, and do without
    assert [text for text in complaints if "404 (Not Found)" not in text] == []
