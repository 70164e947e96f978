"""The scanner that an evaluation takes: with the key of the dataset's placeholders it knows a secret again."""

from pathlib import Path

import pytest

from data_pipelines.config import PipelineConfig
from finetune.cli.secret_scan import secret_scan
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.placeholder import PLACEHOLDER
from finetune.contracts.run import Home
from tests.unit.data_pipelines.building import build_from, rows_of
from tests.unit.data_pipelines.conftest import module_text, save_shop

SECRET = "AKIA" + "QWERTYUIOPASDFGH"
LINE = f'aws_access_key_id = "{SECRET}"\n'


def test_a_key_of_ones_own_is_found_by_its_file_alone(tmp_path: Path) -> None:
    home, dataset, key = Home(tmp_path / "home"), tmp_path / "out", tmp_path / "key"
    key.write_bytes(b"k" * 32)
    builder = save_shop(tmp_path / "shop")
    builder.commit({"shop/apple.py": f"{LINE}\n{module_text('apple')}"}, "Keep the key of the apples here")
    redact = {"key_file": key, "names": False}
    sources = {"sources": [{"path": builder.path}], "run": {"workers": 1}, "redact": redact}
    build_from(PipelineConfig.model_validate(sources), dataset, data=home.data)
    texts = [segment.text for row in rows_of(dataset) for segment in row.segments]
    placeholders = {found for text in texts for found in PLACEHOLDER.findall(text)}
    assert not secret_scan(home, dataset).same_key
    scan = secret_scan(home, dataset, key_file=key)
    assert scan.same_key
    assert set(PLACEHOLDER.findall(scan.redact(LINE, "shop/apple.py"))) <= placeholders
    other = tmp_path / "other"
    other.write_bytes(b"o" * 32)
    with pytest.raises(DatasetError, match=f"another key than that in {other}"):
        secret_scan(home, dataset, key_file=other)
    with pytest.raises(InputError, match="cannot be read"):
        secret_scan(home, dataset, key_file=tmp_path / "none")
