"""Instructions written for this project: forms, each with four fillings, and the program that checks the answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from finetune.evaluate.general.checks import (
    Check,
    all_of,
    defines,
    each_line,
    ends_with,
    equals,
    fenced,
    has_commas,
    has_keys,
    has_lines,
    in_quotes,
    is_json,
    is_list_of,
    is_text,
    is_word,
    num_words,
    numbered,
    starts_with,
)

# raised when a prompt or a check changes: results of before are then results of something else
DEFINITION = 1


@dataclass(frozen=True, slots=True)
class Instruction:
    """A prompt and its check. form is what its fillings share; kind says if shape or content mostly decides."""

    id: str
    form: str
    kind: str
    prompt: str
    passes: Check


@dataclass(frozen=True, slots=True)
class Topic:
    """A filling: something to write about, and how much."""

    text: str
    count: int

    @property
    def keys(self) -> tuple[str, ...]:
        return ("name", "size", "color", "price")[: self.count - 1]

    @property
    def said_keys(self) -> str:
        return ", ".join(self.keys)


@dataclass(frozen=True, slots=True)
class Pair:
    """A filling: two numbers."""

    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Words:
    """A filling: words in a line."""

    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class Name:
    """A filling: a name in snake_case."""

    snake: str

    @property
    def camel(self) -> str:
        first, *rest = self.snake.split("_")
        return first + "".join(part.capitalize() for part in rest)


@dataclass(frozen=True, slots=True)
class Asked:
    """A filling: a question or a date, and its answer."""

    text: str
    answer: str


Form = tuple[str, str, Callable[..., Check]]

TOPICS = (Topic("rivers", 2), Topic("bread", 3), Topic("night trains", 4), Topic("version control", 5))
SHAPES: tuple[Form, ...] = (
    ("lines", "Write exactly {0.count} lines about {0.text}, and nothing else.", lambda on: has_lines(on.count)),
    ("bullets", "List {0.count} facts about {0.text}, each on a line that starts with '- '. No other text.",
     lambda on: each_line(r"- \S.*", on.count)),
    ("numbers", "Give {0.count} tips about {0.text}. Number them 1. to {0.count}., one a line. Write nothing else.",
     lambda on: numbered(on.count)),
    ("keys", "Reply with one JSON object with exactly these keys: {0.said_keys}. No other text.",
     lambda on: is_json(has_keys(*on.keys))),
    ("integers", "Reply with a JSON array of {0.count} integers and nothing else.",
     lambda on: is_json(is_list_of(int, on.count))),
    ("strings", "Reply with a JSON array of {0.count} strings about {0.text}. Only JSON.",
     lambda on: is_json(is_list_of(str, on.count))),
    ("capitals", "Write one sentence about {0.text} in capital letters only.",
     lambda on: all_of(str.isupper, num_words(2, 60))),
    ("small letters", "Write one sentence about {0.text} without a capital letter.",
     lambda on: all_of(str.islower, num_words(2, 60))),
    ("short", "Describe {0.text} in at most {0.count}0 words.", lambda on: num_words(1, on.count * 10)),
    ("last word", "Write a sentence about {0.text}. The very last word is DONE, without a full stop.",
     lambda on: ends_with(" DONE")),
    ("first word", "Write one sentence about {0.text} that starts with the word Perhaps.",
     lambda on: starts_with("Perhaps")),
    ("no comma", "Write two sentences about {0.text} without any comma.",
     lambda on: all_of(has_commas(0), num_words(4, 100))),
    ("commas", "Name {0.count} things that go with {0.text}, on one line with commas between them. Nothing else.",
     lambda on: all_of(has_lines(1), has_commas(on.count - 1))),
    ("quotes", "Write one sentence about {0.text}. Put the whole answer in double quotes.", lambda on: in_quotes),
)  # fmt: skip

NAMES = (Name("items_sold"), Name("read_all_lines"), Name("user_id"), Name("max_open_files"))
CODE: tuple[Form, ...] = (
    ("bare code", "Write a Python function named {0.snake}. Reply with the code only, without a code fence.",
     lambda on: defines(on.snake)),
    ("fence", "Write a Python function named {0.snake} in one code fence marked python, with nothing outside it.",
     lambda on: fenced(on.snake)),
    ("one comment", "Write one Python comment line that says what a function {0.snake} does. Only that line.",
     lambda on: each_line(r"#.*\w.*", 1)),
)  # fmt: skip
SPELLINGS: tuple[Form, ...] = (
    ("snake case", "Write the name {0.camel} in snake_case. Only the name.", lambda on: is_text(on.snake)),
    ("camel case", "Write the name {0.snake} in camelCase. Only the name.", lambda on: is_text(on.camel)),
    ("address", "Reply with the e-mail address only: write to {0.snake}@example.org before noon.",
     lambda on: is_text(f"{on.snake}@example.org")),
)  # fmt: skip

PAIRS = (Pair(17, 26), Pair(8, 7), Pair(40, 19), Pair(121, 35))
NUMBERS: tuple[Form, ...] = (
    ("sum", "What is {0.left} + {0.right}? Answer with the number only.", lambda on: is_text(str(on.left + on.right))),
    ("larger", "Which is larger, {0.left} or {0.right}? Answer with the number only.",
     lambda on: is_text(str(max(on.left, on.right)))),
    ("even", "Is {0.left} an even number? Answer yes or no.", lambda on: is_word("no" if on.left % 2 else "yes")),
    ("hexadecimal", "Write {0.left} in hexadecimal with the prefix 0x. Only that.", lambda on: is_text(hex(on.left))),
)  # fmt: skip

LINES = (
    Words(("pear", "apple", "fig")),
    Words(("red", "blue", "green", "black")),
    Words(("wolf", "ant")),
    Words(("two", "one", "six")),
)
CHANGES: tuple[Form, ...] = (
    ("sort", "Sort these words by the alphabet, one a line, nothing else: {0.line}",
     lambda on: is_text("\n".join(sorted(on.words)))),
    ("reverse", "Write these words in reverse order, commas between them, nothing else: {0.line}",
     lambda on: is_text(", ".join(reversed(on.words)))),
    ("count", "How many words are these? Answer with the number only: {0.line}",
     lambda on: is_text(str(len(on.words)))),
    ("repeat", "Repeat this line exactly and add nothing: {0.line}", lambda on: is_text(on.line)),
    ("replace", "Replace {0.words[0]} by stone in this line, reply with the line only: {0.line}",
     lambda on: is_text(on.line.replace(on.words[0], "stone"))),
    ("array", "Turn this line into a JSON array of strings, only JSON: {0.line}",
     lambda on: is_json(equals(list(on.words)))),
)  # fmt: skip

QUESTIONS = (
    Asked("Which keyword starts a function definition in Python?", "def"),
    Asked("Which Python keyword leaves a loop at once?", "break"),
    Asked("Which Python type is written with curly braces, keys and values?", "dict"),
    Asked("Which Python keyword ends a function and gives a value back?", "return"),
)
WORD: tuple[Form, ...] = (("one word", "{0.text} Answer in one word.", lambda on: is_word(on.answer)),)
DATES = (
    Asked("5 March 2021", "2021-03-05"),
    Asked("12 July 1999", "1999-07-12"),
    Asked("1 December 2010", "2010-12-01"),
    Asked("30 April 2024", "2024-04-30"),
)
DATE: tuple[Form, ...] = (("date", "Write {0.text} as YYYY-MM-DD and nothing else.", lambda on: is_text(on.answer)),)


def instructions() -> tuple[Instruction, ...]:
    """All of them, first one filling of each form, then the next, so that any start of the list has many forms."""
    return tuple(instruction for place in range(len(TOPICS)) for instruction in _filled(place))


def _filled(place: int) -> Iterator[Instruction]:
    for kind, forms, filling in (
        ("shape", SHAPES, TOPICS[place]),
        ("shape", CODE, NAMES[place]),
        ("content", SPELLINGS, NAMES[place]),
        ("content", NUMBERS, PAIRS[place]),
        ("content", CHANGES, LINES[place]),
        ("content", WORD, QUESTIONS[place]),
        ("content", DATE, DATES[place]),
    ):
        for form, prompt, check in forms:
            yield Instruction(f"{form} {place + 1}", form, kind, prompt.format(filling), check(filling))
