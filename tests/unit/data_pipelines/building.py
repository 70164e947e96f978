"""Whole builds as tests run them: in this process, with a key that is always the same, into a work folder beside."""

import io

import pyarrow.parquet as pq

from data_pipelines.config import PipelineConfig
from data_pipelines.pipeline import build_dataset
from finetune.contracts.dataset import Example
from finetune.terminal.progress import Progress

KEY = b"the key of all tests: 32 bytes.."
# of Parquet files those that hold no examples
OTHER_TABLES = ("dropped.parquet", "split.parquet")


def data_folder(out):
    """The data folder of the builds into out: not in it, and not of another dataset beside it."""
    return out.parent / f"{out.name}-data"


def key_file(out):
    """A file with the key of all tests, beside out."""
    path = out.parent / "test.key"
    out.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(KEY)
    return path


def config_of(paths, out, *, workers=1, **settings):
    """The pipeline over some repositories; a key file may be named under redact."""
    redact = {"key_file": key_file(out), **settings.pop("redact", {})}
    sources = [{"path": path} for path in paths]
    document = {"sources": sources, "redact": redact, "run": {"workers": workers}, **settings}
    return PipelineConfig.model_validate(document)


def build(paths, out, *, data=None, **settings):
    """Build a dataset in out; data None is data_folder(out)."""
    return build_from(config_of(paths, out, **settings), out, data=data)


def build_from(config, out, *, data=None):
    """Build a dataset in out by a pipeline; data as in build."""
    with Progress("Building", None, stream=io.StringIO()) as progress:
        return build_dataset(config, out, data_folder=data or data_folder(out), progress=progress)


def rows_of(out, split=""):
    """The rows of a dataset, of one split or of all."""
    paths = [path for path in sorted(out.glob(f"{split}*.parquet")) if path.name not in OTHER_TABLES]
    return [Example.model_validate(row) for path in paths for row in pq.read_table(path).to_pylist()]


def dropped_of(out):
    """What a dataset tells of each file and commit that was left out."""
    return pq.read_table(out / "dropped.parquet").to_pylist()


def bytes_of(folder):
    """Every file of a dataset with its content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
