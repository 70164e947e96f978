from data_pipelines.mine.qa_names import Names


def names_of(*texts):
    names = Names()
    for text in texts:
        names.add_text(text)
    return names


def test_what_was_added_is_known_and_little_else():
    names = names_of(*(f"def compute_{number}(value_{number}):" for number in range(5000)))
    assert all(f"compute_{number}" in names and f"value_{number}" in names for number in range(5000))
    assert sum(f"missing_{number}" in names for number in range(5000)) < 5


def test_workers_that_fill_apart_give_what_one_gives():
    whole, left, right = names_of("alpha beta", "gamma"), names_of("gamma"), names_of("beta alpha")
    left.join([right])
    assert left.content() == whole.content()
    assert "alpha" in Names(left.content())
