"""Whom the jail of a build lets it reach, by its pipeline."""

import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.reach import needs
from finetune.contracts.errors import InputError
from finetune.guard.endpoint import Endpoint


def of(url=None, **run):
    teacher = {"teacher": {"url": url, "model": "local"}} if url else {}
    return needs(PipelineConfig.model_validate({"tasks": {"qa": teacher}, "run": run}))


def test_a_build_reaches_its_teacher_and_nothing_else():
    assert of("https://127.0.0.1/v1").endpoints == (Endpoint("127.0.0.1", 443, ("127.0.0.1",)),)
    assert of("http://10.1.2.3:8000/v1").endpoints == (Endpoint("10.1.2.3", 8000, ("10.1.2.3",)),)
    assert of().endpoints == ()


def test_a_teacher_that_may_not_be_asked_is_no_endpoint():
    with pytest.raises(InputError, match="neither loopback nor private"):
        of("http://8.8.8.8/v1")


def test_what_works_on_other_machines_needs_the_network():
    assert "other machines" in of(executor="slurm").network
    assert "other machines" in of(executor="ray", ray_address="ray://head:10001").network
    alone = of(executor="ray")
    assert alone.network == "" and "over TCP" in alone.loopback
    assert of().loopback == ""
