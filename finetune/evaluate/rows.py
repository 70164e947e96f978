"""Per-row figures of an evaluation, and the Parquet file that keeps them: any two evaluations can be paired by row."""

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from finetune.contracts.dataset import Contract, Task
from finetune.contracts.errors import RunError
from finetune.contracts.io import write_bytes
from finetune.evaluate.heldout import HeldoutRow
from finetune.evaluate.infill import Gap
from finetune.evaluate.similarity import edit_similarity, exact_match

HINT = "Evaluate again: finetune evaluate RUN"


class RowFigure(Contract):
    """A scored row: the bits each model needs for the num_bytes bytes of text that its num_tokens tokens spell."""

    example_id: str
    task: Task
    cluster: str
    path: str
    num_tokens: int
    num_bytes: int
    base_bits: float
    adapter_bits: float

    @classmethod
    def of(cls, row: HeldoutRow, bits: tuple[float, float]) -> Self:
        """The figure of a row with (base, adapter) bits."""
        return cls(
            example_id=row.example_id,
            task=row.task,
            cluster=row.cluster,
            path=row.path,
            num_tokens=row.num_tokens,
            num_bytes=row.num_bytes,
            base_bits=bits[0],
            adapter_bits=bits[1],
        )


class GapFigure(Contract):
    """A filled gap: what the author and both models wrote, and how they compare."""

    example_id: str
    stratum: str
    cluster: str
    path: str
    wanted: str
    base_answer: str
    adapter_answer: str
    base_exact: bool
    adapter_exact: bool
    base_similarity: float
    adapter_similarity: float

    @classmethod
    def of(cls, gap: Gap, answers: tuple[str, str]) -> Self:
        """The figure of a gap with (base, adapter) answers."""
        base, adapter = answers
        return cls(
            example_id=gap.example_id,
            stratum=gap.stratum,
            cluster=gap.cluster,
            path=gap.path,
            wanted=gap.wanted,
            base_answer=base,
            adapter_answer=adapter,
            base_exact=exact_match(base, gap.wanted),
            adapter_exact=exact_match(adapter, gap.wanted),
            base_similarity=edit_similarity(base, gap.wanted),
            adapter_similarity=edit_similarity(adapter, gap.wanted),
        )


KINDS: dict[str, type[RowFigure] | type[GapFigure]] = {"row": RowFigure, "gap": GapFigure}


def write_figures(path: Path, rows: tuple[RowFigure, ...], gaps: tuple[GapFigure, ...]) -> None:
    """Write all figures as one table: kind is row or gap, and a column of the other kind is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = [{"kind": "row", **row.model_dump(mode="json")} for row in rows]
    documents += [{"kind": "gap", **gap.model_dump(mode="json")} for gap in gaps]
    names = list(dict.fromkeys(["kind", *RowFigure.model_fields, *GapFigure.model_fields]))
    table = pa.table({name: [document.get(name) for document in documents] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_figures(path: Path) -> tuple[tuple[RowFigure, ...], tuple[GapFigure, ...]]:
    """What write_figures wrote; nothing where there is no file. Raises RunError for a damaged one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return (), ()
    try:
        documents = pq.read_table(path).to_pylist()
        figures = [_figure(document) for document in documents]
    except (pa.ArrowInvalid, OSError, KeyError, ValidationError) as cause:
        raise RunError(f"{path} is damaged: {cause}.", HINT) from cause
    rows = tuple(figure for figure in figures if isinstance(figure, RowFigure))
    return rows, tuple(figure for figure in figures if isinstance(figure, GapFigure))


def _figure(document: dict[str, Any]) -> RowFigure | GapFigure:
    kind = KINDS[document["kind"]]
    return kind.model_validate({name: document[name] for name in kind.model_fields})
