"""What stands in a dataset where a secret or a person stood; its last part is a keyed digest of what was taken out."""

import re

PATTERN = r"REDACTED_[A-Z_]+_[0-9a-f]{8}|redacted-[0-9a-f]{8}@example\.com"
PLACEHOLDER = re.compile(PATTERN)
PERSON = re.compile(r"REDACTED_NAME_|redacted-")
"""How a placeholder of a name or an address begins."""
