from data_pipelines.dedup.recent import RecentShingles
from data_pipelines.dedup.shingles import shingles


def test_what_was_used_last_is_held_and_the_rest_is_read_again():
    texts = [b" ".join(b"w%d" % (number + unit) for number in range(104)) for unit in range(4)]
    reads = []

    def read(unit):
        reads.append(unit)
        return texts[unit]

    # 100 shingles of 8 bytes each: room for two texts
    recent = RecentShingles(read, max_bytes=1_600)
    for unit in (0, 1, 0, 2, 0, 1):
        assert recent.of(unit).tolist() == shingles(texts[unit]).tolist()
    assert reads == [0, 1, 2, 1]


def test_a_text_larger_than_the_room_is_still_answered():
    recent = RecentShingles(lambda unit: b"a b c d e f g", max_bytes=8)
    assert len(recent.of(0)) == 3
