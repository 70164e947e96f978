from data_pipelines.benchmark.screen import time_allowed


def test_a_timeout_is_five_times_what_the_tests_took_and_does_not_follow_small_changes_of_the_clock():
    assert [time_allowed(seconds) for seconds in (0.0, 1.9, 2.2, 6.0, 6.1, 47.0)] == [30, 30, 30, 30, 60, 240]
    assert all(time_allowed(seconds) >= 5 * seconds for seconds in (0.1, 5.9, 6.1, 24.1, 59.9))
