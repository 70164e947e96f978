"""The image: nothing is fetched while it is made, and who runs in it is nobody."""

import re
from pathlib import Path

import finetune

FOLDER = Path(__file__).parents[3] / "infra" / "container"


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Containerfile with its arguments; comments and line ends are gone."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", (FOLDER / "Containerfile").read_text())
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def arguments(name: str) -> list[str]:
    return [rest for one, rest in instructions() if one == name]


def test_who_builds_it_says_on_what():
    assert arguments("ARG") == ["BASE_IMAGE"]
    assert arguments("FROM") == ["${BASE_IMAGE} AS install", "${BASE_IMAGE}"]


def test_nothing_is_fetched():
    assert not arguments("ADD")
    for command in arguments("RUN"):
        assert not re.search(r"curl|wget|git clone|apt|pip |https?://", command)
    # what is copied is the bundle, whose every file is checked by what installs it
    assert [one.split()[0] for one in arguments("COPY")] == ["finetune.tar", "--from=install"]
    assert (FOLDER / ".containerignore").read_text().split() == ["*", "!finetune.tar"]


def test_it_runs_as_nobody_without_a_shell():
    last = instructions()[-4:]
    assert [name for name, _ in last] == ["USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    user, _, entry, command = (rest for _, rest in last)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert entry == '["finetune"]' and command.startswith("[")


def test_manifests_take_this_version():
    for path in (FOLDER.parent / "kubernetes").glob("*.yaml"):
        for found in re.findall(r"registry\.example/finetune:(\S+)", path.read_text()):
            assert found == finetune.__version__
