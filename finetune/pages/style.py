"""How a page looks, and the policy that lets a browser load nothing else."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
STYLE = "style.css"


def page_style(own: Path) -> str:
    """The style of every page of the project, then that of the page whose file is own."""
    return (HERE / STYLE).read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


def page_policy(style: str) -> str:
    """A Content-Security-Policy for a page that holds this one style and nothing that loads or runs."""
    digest = b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
