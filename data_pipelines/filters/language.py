"""A file's language by its name: facts, not guesses. None means that it is no source code we know."""

from pathlib import PurePosixPath

BY_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".pyw": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".java": "java",
    ".kt": "kotlin",
    ".scala": "scala",
    ".go": "go",
    ".rs": "rust",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".rb": "ruby",
    ".php": "php",
    ".swift": "swift",
    ".sh": "shell",
    ".bash": "shell",
    ".sql": "sql",
    ".lua": "lua",
    ".pl": "perl",
    ".r": "r",
    ".html": "html",
    ".css": "css",
    ".md": "markdown",
    ".rst": "restructuredtext",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".xml": "xml",
    ".txt": "text",
    ".ipynb": "notebook",
}
BY_NAME = {"SConstruct": "python", "wscript": "python", "Makefile": "make", "Dockerfile": "dockerfile"}


def language_of(path: str) -> str | None:
    """The language of a path such as "shop/cart.py"."""
    name = PurePosixPath(path)
    return BY_NAME.get(name.name) or BY_SUFFIX.get(name.suffix.lower())
