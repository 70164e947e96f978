"""Commit to edit: the message, the files before, and search/replace blocks that make the files after."""

from data_pipelines.document import Edit
from data_pipelines.mine.row import Row, provenance
from data_pipelines.spool import Spool
from finetune.contracts.dataset import Role, Segment, Task


def mine_commit_edit(edit: Edit, spool: Spool) -> Row:
    """The row of an edit."""
    answer = spool.text(edit.answer)
    return Row(
        task=Task.COMMIT_EDIT,
        language=edit.language,
        stratum="",
        segments=(
            Segment(role=Role.INSTRUCTION, text=edit.message),
            *(Segment(role=Role.CONTEXT, text=spool.text(file.before), path=file.path) for file in edit.files),
            Segment(role=Role.ANSWER, text=answer, loss=True),
        ),
        provenance=tuple(
            provenance(
                edit.repo,
                edit.origin,
                path=file.path,
                blob=file.after_blob,
                lines=(1, max(1, file.num_lines_after)),
                license_name=edit.license,
            )
            for file in edit.files
        ),
        spans=(),
        visibility=edit.visibility,
    )
