"""Raw paths of git: what can be shown, and what no tool may write."""

# of Linux
MAX_PATH_BYTES, MAX_NAME_BYTES = 4096, 255


def readable_path(path: bytes) -> str | None:
    """A path as text; None when it is not UTF-8 or holds control characters, which no tool prints safely."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def printable_path(path: bytes) -> str:
    """Any path as text for a report; what cannot be shown is escaped."""
    return readable_path(path) or path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


def is_too_long(path: bytes) -> bool:
    """Whether no usual file system could hold a path."""
    return len(path) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in path.split(b"/"))


def leads_outside(path: str) -> bool:
    """Whether a path, once written, could leave its folder or reach into git's own: "..", ".git", "/etc", "a\\b"."""
    return "\\" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/"))
