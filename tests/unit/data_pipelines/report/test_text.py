from data_pipelines.report.text import excerpt, harmless, name


def test_placeholders_are_marked():
    assert harmless("<a 'REDACTED_PASSWORD_1a2b3c4d'") == (
        "&lt;a &#39;<mark class=redacted>REDACTED_PASSWORD_1a2b3c4d</mark>&#39;"
    )


def test_they_are_marked_in_names_and_excerpts_too():
    text = "REDACTED_PASSWORD_1a2b3c4d"
    assert name(text) == excerpt(text, max_lines=1, max_chars=100).html == harmless(text)
