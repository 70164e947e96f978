"""MLflow as infra/mlflow sets it up: PostgreSQL, an S3 store that asks for keys, the server, nginx in front."""

import http.client
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from finetune.tracking.ui import free_port
from tests.e2e.gateways import wait_until
from tests.e2e.test_replica_tls import make_certificates

INFRA = Path(__file__).parents[2] / "infra" / "mlflow"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
START_SECONDS = 120.0
BUCKET = "mlflow"
ADMIN = "admin"
# PostgreSQL and start.sh refuse root, as they should; nobody is in every list of users
AS_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534") if os.geteuid() == 0 else ()
# users, policies and keys of the stand-in for S3 can only be made while it does not ask for them yet
OPEN_CALLS = 4


@dataclass
class Site:
    """Where everything is. url is the proxy's, ca the authority to trust, socket the server's own."""

    folder: Path
    port: int = field(default_factory=lambda: free_port(0))
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    s3_port: int = field(default_factory=lambda: free_port(0))
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def ca(self) -> Path:
        return self.folder / "tls" / "ca.pem"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    @property
    def run(self) -> Path:
        """The folder of the sockets."""
        return self.folder / "run"

    @property
    def socket(self) -> Path:
        return self.run / "server.sock"

    def direct(self, **options: object) -> httpx.Client:
        """A client that goes past the proxy."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://mlflow", headers={"host": self.host}, **options)  # type: ignore[arg-type]

    def proxied(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trust, **options)  # type: ignore[arg-type]

    def spawn(self, name: str, *command: object, environment: Mapping[str, str] | None = None) -> None:
        """Start a part that is ended with the site; what it says is in the file name."""
        with (self.folder / name).open("ab") as log:
            child = subprocess.Popen(
                [*AS_NOBODY, *map(str, command)],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **(environment or {})},
                cwd=self.folder,
                start_new_session=True,
            )
        self.children.append(child)

    def said(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")

    def wait(self, name: str, condition: object) -> None:
        """Until condition holds, or the part that was started last ends."""
        child = self.children[-1]

        def done() -> bool:
            assert child.poll() is None, self.said(name)
            return bool(condition())  # type: ignore[operator]

        wait_until(done, START_SECONDS)

    def stop(self) -> None:
        for child in reversed(self.children):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def settings(site: Site) -> dict[str, str]:
    """What start.sh is told."""
    return {
        "MLFLOW_PUBLIC_URL": site.url,
        "MLFLOW_BACKEND_STORE_URI": f"postgresql://mlflow@/mlflow?host={site.run}",
        "MLFLOW_AUTH_STORE_URI": f"postgresql://mlflow@/mlflow_auth?host={site.run}",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts",
        "MLFLOW_S3_ENDPOINT_URL": site.s3_url,
        "MLFLOW_ADMIN_PASSWORD_FILE": str(site.folder / "admin_password"),
        "MLFLOW_SECRET_KEY_FILE": str(site.folder / "secret_key"),
        "MLFLOW_SOCKET": str(site.socket),
        "MLFLOW_WORKERS": "1",
        "PYTHON": sys.executable,
        "PGPASSFILE": str(site.folder / "pgpass"),
        "AWS_SHARED_CREDENTIALS_FILE": str(site.folder / "s3_credentials"),
        "AWS_DEFAULT_REGION": "us-east-1",
        # what start.sh must not hand on
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
        "MLFLOW_ENABLE_REMOTE_ASSISTANT": "true",
    }


@contextmanager
def mlflow_site(folder: Path, *, routes: str | None = None) -> Iterator[Site]:
    """A whole site in folder; routes replaces routes.conf."""
    site = Site(folder)
    site.run.mkdir(mode=0o750)
    make_certificates(folder / "tls")
    try:
        start_postgres(site)
        start_s3(site)
        write_secret(folder / "admin_password", site.admin_password)
        write_secret(folder / "secret_key", secrets.token_hex(32))
        site.spawn("mlflow.log", INFRA / "start.sh", environment=settings(site))
        site.wait("mlflow.log", lambda: answers(site))
        start_proxy(site, routes)
        yield site
    finally:
        site.stop()


def write_secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")
    return path


def start_postgres(site: Site) -> None:
    """Two databases that are reached over a socket, with a password."""
    binaries, data = POSTGRES[-1], site.folder / "postgres"
    password = secrets.token_urlsafe(18)
    environment = {
        "PATH": os.environ["PATH"],
        "PGPASSFILE": str(write_secret(site.folder / "pgpass", f"*:*:*:mlflow:{password}")),
    }
    password_file = write_secret(site.folder / "pg_password", password)
    making = ("--username=mlflow", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync", "-E", "UTF8")
    subprocess.run([*AS_NOBODY, binaries / "initdb", "-D", data, *making], check=True, capture_output=True)
    options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={site.run}", "-c", "fsync=off")
    site.spawn("postgres.log", binaries / "postgres", "-D", data, *options)
    reach = ("--host", site.run, "--username", "mlflow")
    ready = [binaries / "pg_isready", "--quiet", *reach]
    site.wait("postgres.log", lambda: subprocess.run(ready, check=False).returncode == 0)
    for name in ("mlflow", "mlflow_auth"):
        subprocess.run([binaries / "createdb", *reach, name], check=True, env=environment)


def start_s3(site: Site) -> None:
    """A store that answers signed requests of one key alone."""
    environment = {"INITIAL_NO_AUTH_ACTION_COUNT": str(OPEN_CALLS)}
    site.spawn(
        "s3.log", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", site.s3_port, environment=environment
    )
    site.wait("s3.log", lambda: listens(site.s3_port))
    asker = (sys.executable, "-c", MAKE_KEY, site.s3_url, BUCKET)
    credentials = subprocess.run(asker, check=True, capture_output=True, text=True).stdout
    write_secret(site.folder / "s3_credentials", credentials)


# in a process of its own: boto3 belongs to the server, not to what is tested
MAKE_KEY = """
import json, sys
import boto3
place = dict(endpoint_url=sys.argv[1], region_name="us-east-1")
place |= dict(aws_access_key_id="first", aws_secret_access_key="first")
iam = boto3.client("iam", **place)
iam.create_user(UserName="mlflow")
rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="mlflow", PolicyName="store", PolicyDocument=json.dumps(rights))
key = iam.create_access_key(UserName="mlflow")["AccessKey"]
boto3.client("s3", **place).create_bucket(Bucket=sys.argv[2])
print(f"[default]\\naws_access_key_id = {key['AccessKeyId']}\\naws_secret_access_key = {key['SecretAccessKey']}")
"""


def start_proxy(site: Site, routes: str | None) -> None:
    """nginx with the files of infra; what differs from site to site is written anew."""
    folder = site.folder / "proxy"
    folder.mkdir()
    for name in ("nginx.conf", "server.conf", "routes.conf"):
        shutil.copy(INFRA / name, folder)
    if routes is not None:
        (folder / "routes.conf").write_text(routes)
    text = (INFRA / "site.conf").read_text()
    for old, new in {
        "/etc/mlflow/tls/server.pem": str(site.folder / "tls" / "server.pem"),
        "/etc/mlflow/tls/server.key": str(site.folder / "tls" / "server.key"),
        "/run/mlflow/server.sock": str(site.socket),
        "listen 8443": f"listen 127.0.0.1:{site.port}",
        "mlflow.example": "127.0.0.1",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "site.conf").write_text(text)
    site.spawn("proxy.log", NGINX, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf")
    site.wait("proxy.log", lambda: listens(site.port))


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def answers(site: Site) -> bool:
    if not site.socket.exists():
        return False
    try:
        with site.direct() as client:
            return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def ask_raw(site: Site, method: str, target: str, *, host: str | None = None) -> int:
    """The status of a request whose target is sent as it is, through the proxy; host None sends the right one."""
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, context=site.trust, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True)
        connection.putheader("Host", host or site.host)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()
