"""What is known of a base from the files beside its weights."""

import pytest

from finetune.contracts.bases import known_licence


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [code]\n---\n# Model\nlicense: mit\n", "apache-2.0"),
        ("---\ntags: [code]\n---\nlicense: mit\n", ""),
        ("# Model\n", ""),
    ],
)
def test_the_licence_of_a_base_is_what_the_head_of_its_readme_states(tmp_path, readme, licence):
    (tmp_path / "README.md").write_text(readme)
    assert known_licence(tmp_path) == licence
    assert known_licence(tmp_path / "gone") == ""
