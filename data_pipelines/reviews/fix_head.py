"""What the store knows of a review fix, and the row that is made of it."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from data_pipelines.document import Origin
from data_pipelines.mine.row import Row, provenance
from finetune.contracts.dataset import Role, Segment, Task


class FixHead(BaseModel):
    """Why the fixes of one commit in one file give no row, or all of the row but who, where from and for whom.

    Texts are named by their digests: instruction, the lines shown, answer, and the whole file on both sides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = ""
    language: str = ""
    stratum: str = ""
    path: str = ""
    blob: str = ""
    first_line: int = 0
    last_line: int = 0
    spans: tuple[int, ...] = ()
    requests: tuple[str, ...] = ()
    """Numbers of the requests: see split.leakage."""
    instruction: str = ""
    shown: str = ""
    answer: str = ""
    before: str = ""
    after: str = ""
    hits: dict[str, int] = {}
    marks: str = ""


def stored_fix_row(
    head: FixHead,
    *,
    repo: str,
    visibility: str,
    origin: Origin,
    license_name: str | None,
    read: Callable[[bytes], bytes],
) -> Row:
    """The row of a fix; read gives a text by its digest."""

    def text(digest: str) -> str:
        return read(bytes.fromhex(digest)).decode("utf-8")

    lines = head.first_line, head.last_line
    place = provenance(repo, origin, path=head.path, blob=head.blob, lines=lines, license_name=license_name)
    return Row(
        task=Task.REVIEW_FIX,
        language=head.language,
        stratum=head.stratum,
        segments=(
            Segment(role=Role.INSTRUCTION, text=text(head.instruction)),
            Segment(role=Role.CONTEXT, text=text(head.shown), path=head.path),
            Segment(role=Role.ANSWER, text=text(head.answer), loss=True),
        ),
        provenance=(place,),
        spans=head.spans,
        visibility=visibility,
    )
