"""Texts are kept within bounds, and their memory is free when they are gone."""

from hypothesis import given
from hypothesis import strategies as st

from mail.summary import SearchText
from storage.kept_texts import PIECE_BYTES, KeptTexts

KEYS = st.tuples(st.integers(1, 2), st.integers(1, 4))
TEXTS = st.builds(SearchText, subject=st.text(max_size=9), body=st.text(max_size=9))


@given(st.lists(st.tuples(KEYS, st.none() | TEXTS), max_size=40))
def test_it_is_a_dictionary(steps: list[tuple[tuple[int, int], SearchText | None]]) -> None:
    kept, model = KeptTexts(PIECE_BYTES), dict[tuple[int, int], SearchText]()
    for key, text in steps:
        if text is None:
            kept.drop(key)
            model.pop(key, None)
        elif key not in kept:
            assert kept.put(key, text)
            model[key] = text
        assert {one: kept.get(one) for one in model} == model
        assert len(kept) == len(model)
        assert (kept.held_bytes == 0) == (not model)


def test_what_does_not_fit_is_not_kept() -> None:
    kept = KeptTexts(3 * PIECE_BYTES)
    large = SearchText(body="x" * (2 * PIECE_BYTES))
    half = SearchText(body="x" * (PIECE_BYTES // 2 + 1))
    assert kept.put((1, 1), large)
    assert not kept.put((1, 2), half), "a piece for the large one takes more than two"
    kept.drop((1, 1))
    assert [kept.put((1, number), half) for number in range(4)] == [True, True, True, False]
    assert kept.size_bytes((1, 1)) is not None
    assert kept.size_bytes((1, 3)) is None
    for number in range(3):
        kept.drop((1, number))
    assert kept.held_bytes == 0
