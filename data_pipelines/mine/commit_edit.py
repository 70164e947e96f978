"""Commit to edit: the message, the files before, and search/replace blocks that make the files after."""

from collections.abc import Callable

from data_pipelines.document import Origin
from data_pipelines.engine.results import EditHead
from data_pipelines.mine.row import Row, provenance
from finetune.contracts.dataset import Role, Segment, Task


def commit_edit_row(
    head: EditHead,
    *,
    repo: str,
    visibility: str,
    origin: Origin,
    license_name: str | None,
    read: Callable[[bytes], bytes],
) -> Row:
    """The row of an edit; read gives a text by its digest."""

    def text(digest: str) -> str:
        return read(bytes.fromhex(digest)).decode("utf-8")

    return Row(
        task=Task.COMMIT_EDIT,
        language=head.language,
        stratum="",
        segments=(
            Segment(role=Role.INSTRUCTION, text=head.message),
            *(Segment(role=Role.CONTEXT, text=text(file.before), path=file.path) for file in head.files),
            Segment(role=Role.ANSWER, text=text(head.answer), loss=True),
        ),
        provenance=tuple(
            provenance(
                repo,
                origin,
                path=file.path,
                blob=file.after_blob,
                lines=(1, max(1, file.num_lines_after)),
                license_name=license_name,
            )
            for file in head.files
        ),
        spans=(),
        visibility=visibility,
    )
