"""What functions of every language have in common when they become tasks: the task, and what training knew of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.labels import Body, Label, Labels, label_bodies
from data_pipelines.sources.git import Repository
from finetune.contracts.executed import ExecutedTask, FileText
from finetune.contracts.io import digest_text
from finetune.terminal.output import note


class JudgedFunction(Protocol):
    """What screening found of a function that is kept."""

    @property
    def fail_to_pass(self) -> tuple[str, ...]: ...

    @property
    def pass_to_pass(self) -> tuple[str, ...]: ...

    @property
    def timeout_seconds(self) -> float: ...


def body_task(
    repository: Repository,
    function: Function,
    judged: JudgedFunction,
    *,
    language: str,
    weak: Sequence[str],
    label: Label | None,
) -> ExecutedTask:
    """The task of writing the function's body; weak: plain bodies that its tests tell from the author's."""
    span = f"{function.first_line}-{function.last_line}"
    return ExecutedTask(
        id=digest_text(f"{repository.name} {repository.commit} {function.path} {span}")[:16],
        kind="body",
        language=language,
        repo=repository.name,
        commit=repository.commit,
        path=function.path,
        cluster=f"{repository.name}:{function.path}",
        tree=repository.commit[:12],
        statement=f"Write the body of {function.name} in {function.path}, so that the repository's tests pass.",
        first_line=function.first_line,
        last_line=function.last_line,
        gold=(FileText(path=function.path, text=function.body),),
        weak=(function.stub, *weak),
        fail_to_pass=judged.fail_to_pass,
        pass_to_pass=judged.pass_to_pass,
        timeout_seconds=judged.timeout_seconds,
        slice=label.slice if label else None,
        seen=label is not None and label.seen,
    )


def label_functions(repository: Repository, functions: Mapping[str, Function], dataset: Path | None) -> Labels:
    """Labels by the functions' names; none without a dataset."""
    if dataset is None:
        return Labels("", (), {})
    blobs = {entry.path.decode("utf-8", "replace"): entry.blob for entry in repository.entries()}
    bodies = [
        Body(
            id=name,
            repo=repository.name,
            path=one.path,
            blob=blobs[one.path],
            first_line=one.first_line,
            last_line=one.last_line,
            text=one.body,
        )
        for name, one in functions.items()
    ]
    labels = label_bodies(dataset, bodies)
    if repository.name not in labels.repos:
        note(
            f"{dataset} has no repository named {repository.name}, but {', '.join(labels.repos)}: labels come from "
            "equal text alone. If it is one of these, give its name with --name."
        )
    return labels


def label_name(task: ExecutedTask) -> str:
    """What a person reads of it."""
    return "seen" if task.seen else task.slice or "not labelled"
