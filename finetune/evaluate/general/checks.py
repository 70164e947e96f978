"""Whether an answer does what an instruction asked: programs, no model and no taste."""

import ast
import json
import re
from collections.abc import Callable

Check = Callable[[str], bool]
FENCE = "```"


def lines_of(answer: str) -> list[str]:
    """The lines of answer that are not blank, without white space around them."""
    return [line.strip() for line in answer.splitlines() if line.strip()]


def is_text(wanted: str) -> Check:
    """Exactly wanted, but for white space around it."""
    return lambda answer: answer.strip() == wanted


def is_word(*wanted: str) -> Check:
    """One word, one of wanted; capitals and a full stop do not matter."""
    allowed = {word.casefold() for word in wanted}
    return lambda answer: answer.strip().rstrip(".!").casefold() in allowed


def has_lines(count: int) -> Check:
    """Exactly count lines that are not blank."""
    return lambda answer: len(lines_of(answer)) == count


def each_line(pattern: str, count: int) -> Check:
    """Exactly count lines, each of which matches pattern as a whole."""
    return lambda answer: has_lines(count)(answer) and all(re.fullmatch(pattern, line) for line in lines_of(answer))


def numbered(count: int) -> Check:
    """Lines 1. to count., in order."""
    return lambda answer: (
        has_lines(count)(answer) and all(line.startswith(f"{at}. ") for at, line in enumerate(lines_of(answer), 1))
    )


def is_json(accepts: Callable[[object], bool]) -> Check:
    """JSON and nothing else, which accepts agrees to."""

    def check(answer: str) -> bool:
        try:
            return accepts(json.loads(answer))
        except (ValueError, RecursionError):
            return False

    return check


def has_keys(*keys: str) -> Callable[[object], bool]:
    """An object with these keys and no other."""
    return lambda value: isinstance(value, dict) and set(value) == set(keys)


def is_list_of(kind: type, count: int) -> Callable[[object], bool]:
    """A list of count values of kind."""
    return lambda value: isinstance(value, list) and len(value) == count and all(type(item) is kind for item in value)


def defines(name: str) -> Check:
    """Python that parses, defines the function name, and has no code fence."""
    return lambda answer: FENCE not in answer and _defines(answer, name)


def fenced(name: str) -> Check:
    """One code fence marked python, nothing outside it, and Python inside that defines the function name."""

    def check(answer: str) -> bool:
        found = re.fullmatch(r"```python\n(.*?)\n?```", answer.strip(), re.DOTALL)
        return found is not None and FENCE not in found[1] and _defines(found[1], name)

    return check


def _defines(text: str, name: str) -> bool:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def starts_with(text: str) -> Check:
    """Begins with text."""
    return lambda answer: answer.strip().startswith(text)


def ends_with(text: str) -> Check:
    """Ends in text, and says something before it."""
    return lambda answer: answer.strip().endswith(text) and answer.strip() != text


def in_quotes(answer: str) -> bool:
    """Between one pair of double quotes."""
    text = answer.strip()
    return len(text) > 2 and text.startswith('"') and text.endswith('"') and text.count('"') == 2


def has_commas(count: int) -> Check:
    """Exactly count commas."""
    return lambda answer: answer.count(",") == count


def equals(wanted: object) -> Callable[[object], bool]:
    """The value wanted."""
    return lambda value: value == wanted


def all_of(*checks: Check) -> Check:
    """Each of checks."""
    return lambda answer: all(check(answer) for check in checks)


def num_words(low: int, high: int) -> Check:
    """From low to high words."""
    return lambda answer: low <= len(answer.split()) <= high
