"""Mailbox/query: folders by name, role or parent, flat or as a tree (RFC 8621 §2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.ids import folder_id_of, parse_folder_id
from actors.jmap.problems import MethodError, invalid
from actors.jmap.query import (
    Comparator,
    Operator,
    Where,
    begin_results,
    parse_filter,
    parse_sort,
    parse_window,
    query_response,
)
from storage.records import FolderRecord

SORT_PROPERTIES = ("sortOrder", "name", "parentId")

Folders = Mapping[int, FolderRecord]


@dataclass(frozen=True, slots=True)
class FolderQuery:
    """Which folders are wanted, and in which order."""

    wanted: Operator
    sort: tuple[Comparator, ...]
    sort_as_tree: bool
    filter_as_tree: bool

    @property
    def as_tree(self) -> bool:
        """Say whether a folder's place depends on what is above it."""
        return self.sort_as_tree or self.filter_as_tree

    def results(self, folders: Folders) -> list[int]:
        """Return the numbers of the folders that match, in order."""
        kept = _filtered(folders, self.wanted, as_tree=self.filter_as_tree)
        ordered = _sorted(folders, self.sort, as_tree=self.sort_as_tree)
        return [number for number in ordered if number in kept]


def parse_folder_query(arguments: Arguments) -> FolderQuery:
    """Take the arguments that say which folders are wanted."""
    return FolderQuery(
        parse_filter(arguments.any("filter"), parse_condition),
        parse_sort(arguments.any("sort"), SORT_PROPERTIES),
        arguments.flag("sortAsTree"),
        arguments.flag("filterAsTree"),
    )


async def mailbox_query(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the ids of the folders that match, in order."""
    arguments.account(context)
    query = parse_folder_query(arguments)
    window = parse_window(arguments)
    arguments.close()
    reader = context.access.reader()
    state = str(reader.info.folder_modseq)
    results = begin_results(window, parse_folder_id)
    for number in query.results(reader.folders()):
        results.add(number)
    return query_response(context, results, query_state=state, id_of=folder_id_of)


def parse_condition(name: str, value: object) -> Where:
    """Return one condition over a FolderRecord."""
    match name, value:
        case "parentId", None:
            return Where(lambda folder: folder.parent is None)
        case "parentId", str(text):
            parent = parse_folder_id(text)
            return Where(lambda folder: parent is not None and folder.parent == parent)
        case "name", str(text):
            part = Comparator("name").collate(text)
            return Where(lambda folder: part in Comparator("name").collate(folder.name))
        case "role", str() | None:
            return Where(lambda folder: folder.role == value)
        case "hasAnyRole", bool(wanted):
            return Where(lambda folder: (folder.role is not None) is wanted)
        case "isSubscribed", bool(wanted):
            return Where(lambda folder: folder.subscribed is wanted)
        case (("parentId" | "name" | "role" | "hasAnyRole" | "isSubscribed"), _):
            raise invalid(f"filter: {name} has the wrong type")
        case _:
            raise MethodError("unsupportedFilter", f"no condition {name[:100]}")


def _filtered(folders: Folders, wanted: Operator, *, as_tree: bool) -> set[int]:
    """Return what matches; as a tree, only folders all of whose ancestors match, too."""
    kept = {number for number, folder in folders.items() if wanted.matches(folder)}
    if not as_tree:
        return kept
    return {n for n in kept if all(ancestor in kept for ancestor in path_of(folders, n))}


def path_of(folders: Folders, number: int) -> list[int]:
    """Return the folder and its ancestors, the topmost first."""
    path: dict[int, None] = {}
    at: int | None = number
    while at is not None and at in folders and at not in path:
        path[at] = None
        at = folders[at].parent
    return list(path)[::-1]


def _sorted(folders: Folders, sort: tuple[Comparator, ...], *, as_tree: bool) -> list[int]:
    """Return all folders in order. As a tree, each follows its parent (RFC 8621 §2.3)."""
    order = list(folders)
    for comparator in reversed(sort):
        order.sort(key=lambda n: _key(folders[n], comparator), reverse=not comparator.ascending)
    if not as_tree:
        return order
    # Compared by their ranks from the top down, an ancestor comes before what is under it,
    # and others are compared by their nearest ancestors that are siblings.
    rank = {number: i for i, number in enumerate(order)}
    return sorted(order, key=lambda n: [rank[ancestor] for ancestor in path_of(folders, n)])


def _key(folder: FolderRecord, comparator: Comparator) -> Any:
    match comparator.property:
        case "name":
            return comparator.collate(folder.name)
        case "sortOrder":
            return folder.sort_order
        case _:
            return -1 if folder.parent is None else folder.parent
