"""Folder paths: roles by name, and which of two folders has it."""

import pytest

from mail.errors import Invalid
from mail.folder_path import FolderPath, folder_path, parse_folder_path, role_of, with_roles


def test_our_own_names_have_a_role_at_the_root_only() -> None:
    assert folder_path(["INBOX"]) == FolderPath(("INBOX",), "inbox")
    assert folder_path(["Junk"]).role == "junk"
    assert folder_path(["Work", "Junk"]).role is None
    assert folder_path(["Spam"]).role is None, "not before the other folders are known"


def test_names_of_other_systems() -> None:
    assert role_of("Deleted Items") == "trash"
    assert role_of("보낸편지함") == "sent"
    assert role_of("Receipts") is None
    names = ("Sent Items", "Spam", "Bin", "Receipts")
    roles = [path.role for path in with_roles([folder_path([name]) for name in names])]
    assert roles == ["sent", "junk", "trash", None]


def test_another_name_is_an_ordinary_folder_beside_our_own() -> None:
    found = with_roles([folder_path(["Spam"]), folder_path(["Junk"]), folder_path(["a", "Bin"])])
    assert [path.role for path in found] == [None, "junk", None]
    found = with_roles([folder_path(["Spam"]), folder_path(["Bulk Mail"])])
    assert [path.role for path in found] == ["junk", None]


def test_paths_as_people_write_them() -> None:
    assert parse_folder_path("/Old/2019/") == FolderPath(("Old", "2019"))
    assert str(parse_folder_path("Old/2019")) == "Old/2019"
    for text in ("", "/", "a//b", "a/\n", "/".join("a" * 21)):
        with pytest.raises(Invalid):
            parse_folder_path(text)
