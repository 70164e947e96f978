"""Text of a dataset as HTML: as on every page of the project, with what redaction put in marked."""

from functools import partial

from markupsafe import Markup, escape

from data_pipelines.redact.redactor import PLACEHOLDER_TEXT
from finetune.pages import text


def _marked(piece: str) -> Markup:
    parts, done = [], 0
    for match in PLACEHOLDER_TEXT.finditer(piece):
        parts += [escape(piece[done : match.start()]), Markup("<mark class=redacted>{}</mark>").format(match[0])]
        done = match.end()
    return Markup("").join([*parts, escape(piece[done:])])


harmless = partial(text.harmless, mark=_marked)
name = partial(text.name, mark=_marked)
excerpt = partial(text.excerpt, mark=_marked)
