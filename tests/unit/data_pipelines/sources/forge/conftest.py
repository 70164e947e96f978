"""One merged and one open request, without a repository behind them."""

import pytest

HUNK = "@@ -1,3 +1,4 @@ def total():\n def total(items):\n-    return 0\n+    result = sum(items)\n+    return result"


@pytest.fixture
def requests(forge_exports):
    """Request 7 is merged, with a thread of three comments by two persons and one by a bot; 8 is open."""
    said = forge_exports.Said
    question = said("mira", "This must not fail when there are no items, please.", 1000)
    talk = [question, said("author", "What shall it give then, @mira?", 1010), said("mira", "Zero.", 1020)]
    robot = said("sonar[bot]", "Coverage on this line fell to twelve percent.", 1030, is_bot=True)
    thread = forge_exports.Thread("shop/cart.py", 3, "a" * 40, HUNK, talk)
    noise = forge_exports.Thread("shop/cart.py", 2, "a" * 40, HUNK, [robot])
    praise = forge_exports.Thread("shop/cart.py", 2, "a" * 40, HUNK, [said("mira", "LGTM", 1040)])
    merged = forge_exports.Request(7, "Add totals", ["a" * 40, "b" * 40], "c" * 40, 2000, [thread, noise, praise])
    late = forge_exports.Thread("shop/cart.py", 3, "a" * 40, HUNK, [said("mira", "Rename this to subtotal.", 1050)])
    return [merged, forge_exports.Request(8, "Open work", ["d" * 40], None, None, [late])]
