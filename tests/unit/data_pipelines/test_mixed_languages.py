"""A repository of several languages, one of them unknown, built into a dataset."""

from finetune.contracts.dataset import Role, Task
from tests.unit.data_pipelines import building

GO = """package shop

import "fmt"

// Weigh{0} adds up the grams of every {1} in the basket.
func Weigh{0}({1}s []int) int {{
	{1}Total := {2}
	for _, {1} := range {1}s {{
		{1}Total += {1} * {2}
	}}
	fmt.Println("weighed", {1}Total)
	return {1}Total
}}
"""
HEADER = """#ifndef {0}_H
#define {0}_H
/* how heavy a {1} is, and where it lies */
struct {1} {{ int grams_of_{1}; int shelf_of_{1}[{2}]; }};
int weigh_{1}(const struct {1} *{1}, int limit_of_{1});
#endif
"""
LUA = """local {1} = {{}}
function {1}.weigh_{1}(items_of_{1})
  local total_{1} = {2}
  for _, item in ipairs(items_of_{1}) do total_{1} = total_{1} + item.grams end
  return total_{1}
end
return {1}
"""
FRUIT = ("apple", "banana", "cherry", "damson", "elder", "fig")


def rows_of(make_repository, out, **settings):
    builder = make_repository()
    for number, fruit in enumerate(FRUIT, 2):
        words = (fruit.title(), fruit, number)
        files = {
            f"{fruit}.go": GO.format(*words),
            f"include/{fruit}.h": HEADER.format(fruit.upper(), fruit, number),
            f"{fruit}.lua": LUA.format(*words),
            f"{fruit}.shop": LUA.format(*words).replace("local", "let").replace(fruit, fruit + "s"),
            f"{fruit}.json": '{"name": "' + fruit + '", "grams": [' + f"{number}, " * 30 + "1]}\n",
        }
        builder.commit(files, f"Add the {fruit} to the basket")
        builder.commit(
            {f"{fruit}.go": GO.format(*words).replace("Total := ", "Total := 1 + ")}, f"Start {fruit} at one"
        )
    return examples_of(builder, out, **settings)


def examples_of(builder, out, **settings):
    building.build([builder.path], out, **settings)
    return building.rows_of(out)


def strata(rows, language):
    return {row.stratum for row in rows if row.task is Task.INFILL and row.language == language}


def test_each_language_gives_what_is_known_of_it(make_repository, tmp_path):
    rows = rows_of(make_repository, tmp_path / "out", tasks={"infill": {"bytes_per_row": 100}})
    assert {row.language for row in rows} == {"go", "c", "lua"}
    assert {row.task for row in rows if row.language == "go"} >= {
        Task.INFILL,
        Task.DOCSTRING,
        Task.COMMIT_EDIT,
        Task.PRETRAIN,
    }
    assert {row.task for row in rows if row.language == "lua"} == {Task.INFILL, Task.REPO_INFILL, Task.PRETRAIN}
    assert strata(rows, "lua") == {"random"}
    assert {"block", "statement", "line"} <= strata(rows, "go")


def test_other_languages_can_be_left_out_or_all_be_taken(make_repository, tmp_path):
    rows = rows_of(make_repository, tmp_path / "none", other_languages="none")
    assert {row.language for row in rows} == {"go", "c"}
    rows = rows_of(make_repository, tmp_path / "any", other_languages="any", languages=["c"])
    assert {row.language for row in rows} == {"c", "lua", "shop"}


def test_a_text_without_syntax_gives_no_gap_when_random_cuts_are_switched_off(make_repository, tmp_path):
    weights = {"block": 1, "statement": 1, "call": 1, "line": 1, "random": 0}
    tasks = {"infill": {"strata": weights}, "repo_infill": {"strata": weights}}
    rows = rows_of(make_repository, tmp_path / "out", tasks=tasks)
    assert strata(rows, "go")
    assert {row.task for row in rows if row.language == "lua"} == {Task.PRETRAIN}


def test_the_answer_of_a_documented_function_is_code_of_its_file(make_repository, tmp_path):
    rows = rows_of(make_repository, tmp_path / "out")
    whole = {segment.path: segment.text for row in rows if row.task is Task.PRETRAIN for segment in row.segments}
    found = [row for row in rows if row.task is Task.DOCSTRING]
    assert found
    for row in found:
        answer = next(segment.text for segment in row.segments if segment.role is Role.ANSWER)
        assert answer in whole[row.provenance[0].path]
        assert answer.startswith("// Weigh")


def test_edits_of_a_header_carry_the_language_of_its_text(make_repository, tmp_path):
    builder = make_repository()
    for number, fruit in enumerate(FRUIT, 2):
        text = f"namespace shop {{\n{HEADER.format(fruit.upper(), fruit, number)}}}\n"
        builder.commit({f"{fruit}.h": text}, f"Add the {fruit} to the basket")
        builder.commit({f"{fruit}.h": text.replace("limit", "most")}, f"Call the limit of the {fruit} what it is")
    rows = examples_of(builder, tmp_path / "out")
    assert {(row.task, row.language) for row in rows} >= {(Task.COMMIT_EDIT, "cpp"), (Task.PRETRAIN, "cpp")}
    assert {row.language for row in rows} == {"cpp"}
