"""Whole files to be read as they are."""

from data_pipelines.config import PretrainSection
from data_pipelines.document import Document
from data_pipelines.mine.row import Row, line_range, provenance_of
from finetune.contracts.dataset import Role, Segment, Task


def mine_pretrain(document: Document, text: bytes, section: PretrainSection) -> list[Row]:
    """One row with the file; none when it is larger than the section allows."""
    if len(text) > section.max_bytes:
        return []
    return [
        Row(
            task=Task.PRETRAIN,
            language=document.language,
            stratum="",
            segments=(Segment(role=Role.TARGET, text=text.decode("utf-8"), path=document.path, loss=True),),
            provenance=(provenance_of(document, line_range(text, 0, len(text))),),
            spans=(0, len(text)),
            visibility=document.visibility,
        )
    ]
