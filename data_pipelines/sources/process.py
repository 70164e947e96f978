"""git as a child process that a hostile repository cannot steer: own environment, no hooks, no network, no prompts."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from finetune.contracts.errors import MachineError

# A repository's own config is read by git and cannot be switched off; these win over it, and each names a program
# that git would start or a channel that it would open.
OVERRIDES = {
    "safe.directory": "*",
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.pager": "cat",
    "core.sshCommand": "false",
    "core.askPass": "false",
    "core.gitProxy": "false",
    "core.alternateRefsCommand": "false",
    "core.quotePath": "true",
    "credential.helper": "",
    "diff.external": "",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "log.showSignature": "false",
    "log.mailmap": "false",
    "log.follow": "false",
    "log.diffMerges": "off",
    "diff.ignoreSubmodules": "none",
    "color.ui": "never",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}


def git_program() -> str:
    """The absolute path of git. Raises MachineError when it is not installed."""
    found = shutil.which("git")
    if found is None:
        raise MachineError("git is not installed on this machine.", "Install git, then run the same command again.")
    return os.path.abspath(found)


def safe_environment(git_dir: Path | None = None, *, ceiling: Path | None = None) -> dict[str, str]:
    """All that git may see of the outside. git_dir None lets git look for one, no higher than below ceiling.

    The caller's own GIT_* variables are not passed on: inside a hook they would point at another repository.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "GIT_SSH_COMMAND": "false",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "GIT_CONFIG_COUNT": str(len(OVERRIDES)),
    }
    for index, (key, value) in enumerate(OVERRIDES.items()):
        environment[f"GIT_CONFIG_KEY_{index}"] = key
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    if git_dir is not None:
        environment["GIT_DIR"] = str(git_dir)
        # wins over core.worktree; nothing is ever read from it
        environment["GIT_WORK_TREE"] = str(git_dir)
    if ceiling is not None:
        environment["GIT_CEILING_DIRECTORIES"] = str(ceiling)
    return environment


def start_git(
    arguments: Sequence[str], *, cwd: Path, environment: dict[str, str], stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    """A git child whose stdout is a pipe; stderr is thrown away, because it may quote the repository at length."""
    return subprocess.Popen(
        [git_program(), *arguments],
        cwd=cwd,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        close_fds=True,
    )


def run_git(arguments: Sequence[str], *, cwd: Path, environment: dict[str, str]) -> tuple[int, bytes]:
    """Run git to its end: exit status and stdout."""
    with start_git(arguments, cwd=cwd, environment=environment) as child:
        output, _ = child.communicate()
    return child.returncode, output


def end(child: "subprocess.Popen[bytes]") -> None:
    """Close the pipes of a child and wait until it is gone."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    child.terminate()
    child.wait()
