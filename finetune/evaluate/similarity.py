"""When an answer equals the author's text, and how near it is otherwise; docs/evaluation.md fixes the definitions."""

import numpy as np


def normalised(text: str) -> str:
    """text without white space at the ends of lines, and without empty lines at its start and end."""
    lines = [line.rstrip() for line in text.splitlines()]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def exact_match(answer: str, wanted: str) -> bool:
    """Whether the normalised texts are equal."""
    return normalised(answer) == normalised(wanted)


def edit_similarity(answer: str, wanted: str) -> float:
    """1 - edit distance / length of the longer one, of the normalised texts, by characters: 1 equal, 0 nothing kept."""
    left, right = normalised(answer), normalised(wanted)
    longest = max(len(left), len(right))
    return 1.0 - edit_distance(left, right) / longest if longest else 1.0


def edit_distance(left: str, right: str) -> int:
    """The least number of insertions, deletions and replacements of characters (Levenshtein)."""
    wanted = np.array([ord(character) for character in right], dtype=np.int64)
    places = np.arange(len(right) + 1)
    row = places.copy()
    for character in left:
        nearest = np.minimum(row[1:] + 1, row[:-1] + (wanted != ord(character)))
        # insertions run along the row: row[j] = min over i <= j of found[i] + (j - i)
        found = np.concatenate(([row[0] + 1], nearest))
        row = np.minimum.accumulate(found - places) + places
    return int(row[-1])
