"""Copies of other people's code, by folder name."""

FOLDERS = frozenset(
    {
        "_vendor",
        "_vendored",
        "bower_components",
        "extern",
        "external",
        "externals",
        "node_modules",
        "site-packages",
        "third-party",
        "third_party",
        "thirdparty",
        "vendor",
        "vendored",
    }
)


def vendored_reason(path: str) -> str | None:
    """Why path is called vendored, None when it is not."""
    found = next((part for part in path.split("/")[:-1] if part.lower() in FOLDERS), None)
    return f"vendored: folder {found}" if found else None
