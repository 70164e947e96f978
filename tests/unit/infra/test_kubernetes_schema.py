"""The manifests are what Kubernetes takes: each against the schema of its kind, unknown keys refused."""

import copy

import pytest

from tests.unit.infra.manifests import documents

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
DOCUMENTS = dict(documents())
# the oldest that is still kept up, and the newest that the library knows
VERSIONS = ("1.33", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_kubernetes_takes_it(name, version):
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_a_misspelt_key_is_found():
    wrong = copy.deepcopy(DOCUMENTS["train.yaml: Job/train-"])
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesytem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFilesytem"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)
