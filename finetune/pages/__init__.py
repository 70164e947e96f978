"""What the project's HTML pages share: text that does nothing, and how a page looks. Nothing here draws a page."""
