import pytest

from data_pipelines.filters.vendored import (
    Evidence,
    is_manifest_name,
    path_evidence,
    reason_of,
    score_of,
    spread_evidence,
    vendored_reason,
)


def test_evidence_adds_up_and_never_beyond_one():
    assert score_of([]) == 0
    assert score_of([Evidence("a", 0.5), Evidence("b", 0.5)]) == 0.75
    assert score_of([Evidence("a", 1.0), Evidence("b", 0.3)]) == 1
    assert reason_of([Evidence("a", 0.2), Evidence("c", 0.3), Evidence("b", 0.3)]) == "vendored: b, c"


@pytest.mark.parametrize(
    "path",
    [
        "vendor/github.com/x/y.go",
        "web/node_modules/x/index.js",
        "Third_Party/zlib/zlib.c",
        "static/jquery-3.1.js",
        "static/jquery.js",
        "static/bootstrap-4.5.2/dist/index.js",
        "src/sqlite3.c",
    ],
)
def test_a_path_that_is_enough_by_itself(path):
    assert vendored_reason(path).startswith("vendored: ")


@pytest.mark.parametrize(
    "path",
    [
        "cache/lru.py",
        "src/dist/build.js",
        "types/shop.d.ts",
        "external/rates.py",
        "lib/deps/graph.rb",
        "shop/v1.2/cart.py",
        "sql/shop--1.0--1.1.sql",
        "V2.1__orders.sql",
        "python3.11_compat.py",
        "jquery.cart.js",
        "vendor.go",
    ],
)
def test_a_path_that_is_not(path):
    assert vendored_reason(path) is None
    assert score_of(path_evidence(path)) < 0.5


def test_versions_of_scripts_are_ones_own():
    assert path_evidence("sql/shop--1.0--1.1.sql") == []
    assert path_evidence("sql/shop-1.0.py") != []


def test_other_sources_and_the_history_add_but_do_not_decide():
    assert spread_evidence(1, None) == []
    assert spread_evidence(1, 3) == []
    assert score_of(spread_evidence(9, 0)) < 0.5
    assert score_of(path_evidence("lib/a.py") + spread_evidence(3, 0)) >= 0.49
    assert len(spread_evidence(2, 0)) == 2


def test_manifests():
    assert all(is_manifest_name(name) for name in ("a/package.json", "go.mod", "x/Shop.podspec", "Cargo.toml"))
    assert not is_manifest_name("a/packages.json")
