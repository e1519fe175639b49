"""Folders: names, and counters against a model that follows RFC 8621 §2 word for word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import Invalid
from mail.folders import (
    DEFAULT_FOLDERS,
    ROLES,
    Counters,
    ThreadMember,
    check_folder_name,
    count_thread,
)


def test_folder_names() -> None:
    assert check_folder_name("보관") == "보관"
    assert check_folder_name("e\u0301") == "é"
    assert check_folder_name("x" * 255) == "x" * 255
    for name in (
        "",
        " ",
        "x" * 256,
        "한" * 86,
        "a\nb",
        "a\x00",
        "\x7f",
        "\u0085",
        "a\u2028",
        "\ud800",
    ):
        with pytest.raises(Invalid):
            check_folder_name(name)


def test_default_folders_have_distinct_known_roles() -> None:
    roles = [role for _name, role, _order in DEFAULT_FOLDERS]
    assert set(roles) <= ROLES
    assert len(set(roles)) == len(roles)
    orders = [order for _name, _role, order in DEFAULT_FOLDERS]
    assert orders == sorted(orders)


def test_the_example_of_the_rfc() -> None:
    """An unread message in the trash, a read one in the inbox: 1 for the trash, 0 for the inbox."""
    inbox, trash = 1, 2
    members = [ThreadMember(1, True, (trash,)), ThreadMember(2, False, (inbox,))]
    counters = count_thread(members, trash=trash)
    assert counters[trash] == Counters(1, 1, 1, 1)
    assert counters[inbox] == Counters(1, 0, 1, 0)


def test_unread_elsewhere_makes_a_thread_unread_here() -> None:
    members = [ThreadMember(1, True, (3,)), ThreadMember(2, False, (1,))]
    assert count_thread(members, trash=2)[1] == Counters(1, 0, 1, 1)


def test_in_trash_and_elsewhere_counts_for_both() -> None:
    members = [ThreadMember(1, True, (2, 3)), ThreadMember(2, False, (1,))]
    counters = count_thread(members, trash=2)
    assert [counters[folder].unread_threads for folder in (1, 2, 3)] == [1, 1, 1]


def test_no_members_no_counters() -> None:
    assert count_thread([], trash=None) == {}


MEMBERS = st.builds(
    ThreadMember,
    st.integers(1, 1000),
    st.booleans(),
    st.sets(st.integers(1, 4), min_size=1).map(tuple),
)
MAILBOXES = st.lists(st.lists(MEMBERS, min_size=1, max_size=5), max_size=6)


def naive(threads: list[list[ThreadMember]], folder: int, trash: int | None) -> Counters:
    """Count one folder as RFC 8621 §2 describes it."""
    emails = [m for thread in threads for m in thread if folder in m.folders]
    unread_threads = 0
    for thread in threads:
        if not any(folder in m.folders for m in thread):
            continue
        if folder == trash:
            considered = [m for m in thread if trash in m.folders]
        else:
            considered = [m for m in thread if set(m.folders) != {trash}]
        unread_threads += any(m.unread for m in considered)
    return Counters(
        len(emails),
        sum(m.unread for m in emails),
        sum(any(folder in m.folders for m in thread) for thread in threads),
        unread_threads,
    )


@given(MAILBOXES, st.sampled_from([None, 1, 4]))
def test_contributions_add_up(threads: list[list[ThreadMember]], trash: int | None) -> None:
    totals: dict[int, Counters] = {}
    for thread in threads:
        for folder, counters in count_thread(thread, trash=trash).items():
            totals[folder] = totals.get(folder, Counters()) + counters
    for folder in range(1, 5):
        assert totals.get(folder, Counters()) == naive(threads, folder, trash)
        total = totals.get(folder, Counters())
        assert total - total == Counters()
