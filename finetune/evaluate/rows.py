"""Tables of an evaluation as Parquet: a row of a contract each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.io import write_bytes

HINT = "Evaluate again: finetune evaluate RUN"
RowT = TypeVar("RowT", bound=Contract)


def write_table(path: Path, kind: type[RowT], rows: Sequence[RowT]) -> None:
    """Write rows with the fields of kind as columns, also where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = [row.model_dump(mode="json") for row in rows]
    table = pa.table({name: [document[name] for document in documents] for name in kind.model_fields})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: Path, kind: type[RowT]) -> tuple[RowT, ...]:
    """What write_table wrote. Raises RunError for a file that is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(kind.model_validate(document) for document in pq.read_table(path).to_pylist())
    except (pa.ArrowInvalid, OSError, ValidationError) as cause:
        raise RunError(f"{path} is damaged: {cause}.", HINT) from cause
