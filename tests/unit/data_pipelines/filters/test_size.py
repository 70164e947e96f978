from data_pipelines.config import FilterSection
from data_pipelines.filters.size import Shape, shape_of, shape_reason
from data_pipelines.filters.thresholds import limits_of


def test_a_shape_counts_all_scripts():
    assert shape_of("ab1 é٣\nü_中\n") == Shape(num_chars=11, num_lines=2, max_line_chars=6, num_letters=5, num_digits=2)
    assert shape_of("") == Shape(0, 1, 0, 0, 0)


def test_the_share_of_letters_is_a_limit_of_its_own():
    text = "1234567890 abc\n" * 20
    assert shape_reason(shape_of(text), limits_of("python", FilterSection())) == "less than 25% letters"
    assert shape_reason(shape_of(text), limits_of("assembly", FilterSection())) is None
    assert shape_reason(shape_of("x\n" * 30), limits_of("python", FilterSection(max_lines=20))) == "more than 20 lines"


def test_the_pipeline_wins_over_the_table_and_the_table_over_general_limits():
    section = FilterSection.model_validate({"max_line_chars": 300, "thresholds": {"sql": {"max_lines": 70}}})
    assert limits_of("go", section).max_line_chars == 300
    assert (limits_of("sql", section).max_line_chars, limits_of("sql", section).max_lines) == (5000, 70)
    own = FilterSection.model_validate({"thresholds": {"sql": {"max_line_chars": 90}}})
    assert limits_of("sql", section.overridden_by(own)).max_line_chars == 90
    assert limits_of("sql", section.overridden_by(own)).max_lines == 70
