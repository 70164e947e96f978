"""How a text writes its values: in quotes as code does, bare as configuration and shells do, or in sentences."""

from enum import StrEnum


class Form(StrEnum):
    """Which rules a text needs: a bare word after "password:" is a value in YAML and a name in Python."""

    CODE = "code"
    CONFIG = "config"
    PROSE = "prose"


BARE = ".yaml .yml .toml .ini .cfg .conf .env .properties .sh .bash .zsh .ksh .tf .tfvars .service .ps1 .bat .cmd"
CONFIG_SUFFIXES = frozenset(BARE.split())
CONFIG_NAMES = ("dockerfile", "makefile", ".env", ".netrc", ".pgpass", ".npmrc", ".pypirc")
PROSE_SUFFIXES = frozenset((".md", ".rst", ".txt", ".adoc"))


def form_of(path: str) -> Form:
    """The form of a file by its name; what is not known is code."""
    # not by pathlib, which is slow: each text of each row asks
    name = path.rpartition("/")[2].lower()
    stem, dot, end = name.rpartition(".")
    suffix = dot + end if stem and end else ""
    if suffix in CONFIG_SUFFIXES or name.startswith(CONFIG_NAMES):
        return Form.CONFIG
    return Form.PROSE if suffix in PROSE_SUFFIXES else Form.CODE
