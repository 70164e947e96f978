"""Real git repositories, small and made on the spot, with fixed dates and authors."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from data_pipelines.sources.process import git_program

START = 1_700_000_000
DAY = 86_400
PLANTED = Path(__file__).parent / "redact" / "planted.py"
AUTHOR = ("Ada Byron", "ada@corp.io")


class RepositoryBuilder:
    """A repository under construction; each commit lies a day after the one before."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        self.now = START
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *(["--bare"] if bare else []))

    def git(self, *arguments: str, stdin: bytes | None = None, author: tuple[str, str] = AUTHOR) -> str:
        """Run git here as a person would, and return what it prints."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": author[0],
            "GIT_AUTHOR_EMAIL": author[1],
            "GIT_COMMITTER_NAME": author[0],
            "GIT_COMMITTER_EMAIL": author[1],
            "GIT_AUTHOR_DATE": f"{self.now} +0000",
            "GIT_COMMITTER_DATE": f"{self.now} +0000",
        }
        done = subprocess.run(
            [git_program(), *arguments], cwd=self.path, env=environment, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self, files: Mapping[str, str | bytes], message: str = "Change files", *, author: tuple[str, str] = AUTHOR
    ) -> str:
        """Write files, commit all of them, and return the commit's id."""
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, author=author)
        self.now += DAY
        return self.git("rev-parse", "HEAD")


def module_text(topic: str, *, num_functions: int = 4) -> str:
    """A module that looks written by a person and like no other topic's."""
    parts = [f'"""Everything about {topic}."""\n\nimport math\n\n']
    for number in range(num_functions):
        noun = f"{topic}_{number}"
        parts.append(
            f"def weigh_{noun}(items_{noun}, limit_{topic}):\n"
            f'    """Weigh the {noun} and stop at the limit of {topic} {number}."""\n'
            f"    total_{noun} = {number}\n"
            f"    for {topic}_entry in items_{noun}:\n"
            f"        if {topic}_entry > limit_{topic}:\n"
            f"            raise ValueError('{topic} {number} is too heavy')\n"
            f"        total_{noun} += math.sqrt({topic}_entry) * {number + 2}\n"
            f"    return total_{noun}\n\n\n"
        )
    return "".join(parts)


TOPICS = ("apple", "bridge", "canal", "desert", "engine", "forest", "garden", "harbour", "island", "jungle")


def save_shop(path: Path) -> RepositoryBuilder:
    """Ten different files in ten commits, an edit of an old one and one of the newest: enough for a split by time."""
    builder = RepositoryBuilder(path)
    for topic in TOPICS:
        builder.commit({f"shop/{topic}.py": module_text(topic)}, f"Add the {topic} module to the shop")
        if topic in ("bridge", "jungle"):
            text = module_text(topic).replace(f"total_{topic}_1 =", f"total_{topic}_1 = 1 +")
            builder.commit({f"shop/{topic}.py": text}, f"Start the {topic} total at one (#7)\n\nIt was wrong.")
    return builder


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., RepositoryBuilder]:
    """make_repository(name, bare=False) gives an empty repository under tmp_path."""
    return lambda name="repo", **options: RepositoryBuilder(tmp_path / name, **options)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to read only."""
    return save_shop(tmp_path_factory.mktemp("shop") / "shop").path


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """planted.py as a module: tests are imported without a package."""
    spec = importlib.util.spec_from_file_location("planted", PLANTED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def forge_exports() -> ModuleType:
    """forge_exports.py as a module."""
    spec = importlib.util.spec_from_file_location("forge_exports", Path(__file__).parent / "forge_exports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["forge_exports"] = module
    spec.loader.exec_module(module)
    return module
