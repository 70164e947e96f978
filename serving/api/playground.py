"""GET /playground: the page and its files, which a browser loads before it has a key: they hold nothing of the site."""

from importlib.resources import files

from fastapi import APIRouter, Response

from serving.api.service import Service

FOLDER = "serving.playground"
PAGE = "/playground"
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "mjs": "text/javascript"}
PAGE_FILE = "index.html"
FILES = ("style.css", "main.mjs", "endpoint.mjs", "served.mjs", "column.mjs", "blind.mjs", "diff.mjs")
# Paths that need no key: the page asks for one, and sends it with each request for data
PUBLIC_PATHS = frozenset({PAGE, *(f"{PAGE}/{name}" for name in FILES)})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def routes(service: Service) -> APIRouter:
    """A route for each file, so that nothing else in the folder can be asked for."""
    router = APIRouter(include_in_schema=False)
    add_file(router, PAGE, PAGE_FILE)
    for name in FILES:
        add_file(router, f"{PAGE}/{name}", name)
    return router


def add_file(router: APIRouter, path: str, name: str) -> None:
    """Answer GET path with a file of the page."""
    content = files(FOLDER).joinpath(name).read_bytes()
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]

    @router.get(path)
    async def send() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)
