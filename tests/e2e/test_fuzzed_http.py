"""Raw requests that are wrong in every way, to the real server: none fails it, and nobody else notices."""

import pytest
import requests

from bench.fuzz_http import fuzz, tiny_server

pytestmark = pytest.mark.slow


def test_raw_requests_neither_fail_nor_disturb_the_server(tmp_path):
    with tiny_server(tmp_path) as (url, key):
        found = fuzz(url, key, number=300, seed=7, secret=str(tmp_path))
        assert requests.get(f"{url}/livez", timeout=10).status_code == 200
    assert found.problems == []
    assert found.num_bystanders >= 3
    # right and wrong, with a key and without one, and refused before anything was read
    assert all(found.codes[code] for code in (0, 200, 400, 401, 403, 404, 413))
