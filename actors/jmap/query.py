"""Query: what `/query` of every type has in common: filters, sorts, windows (RFC 8620 §5.5).

A filter becomes a tree of conditions with a `matches` each; a window says which part of the
sorted results is the answer, and when enough of them are known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.ids import account_id_of
from actors.jmap.limits import (
    COLLATION_ASCII,
    COLLATION_UNICODE,
    COLLATIONS,
    FILTER_CONDITIONS_MAX,
    FILTER_DEPTH_MAX,
    QUERY_IDS_MAX,
    SORT_PROPERTIES_MAX,
)
from actors.jmap.problems import MethodError, invalid

Row_contra = TypeVar("Row_contra", contravariant=True)
RowT = TypeVar("RowT")


class Condition(Protocol[Row_contra]):
    """One node of a filter."""

    @property
    def cost(self) -> int:
        """Return how dear a test is; the cheap ones are made first."""

    @property
    def mutable(self) -> bool:
        """Say whether an object that passes now may fail later."""

    def matches(self, row: Row_contra, /) -> bool:
        """Say whether a row passes."""


@dataclass(slots=True)
class Operator:
    """AND, OR or NOT of conditions."""

    operator: str
    conditions: tuple[Condition[Any], ...]
    cost: int

    @property
    def mutable(self) -> bool:
        return any(condition.mutable for condition in self.conditions)

    def matches(self, row: Any, /) -> bool:
        match self.operator:
            case "AND":
                return all(condition.matches(row) for condition in self.conditions)
            case "OR":
                return any(condition.matches(row) for condition in self.conditions)
            case _:
                return not any(condition.matches(row) for condition in self.conditions)


def all_of(conditions: Sequence[Condition[Any]]) -> Operator:
    """Return the condition that all of these hold, the cheapest asked first."""
    return _operator("AND", conditions)


def _operator(operator: str, conditions: Sequence[Condition[Any]]) -> Operator:
    by_cost = tuple(sorted(conditions, key=lambda condition: condition.cost))
    return Operator(operator, by_cost, max((c.cost for c in by_cost), default=0))


@dataclass(frozen=True, slots=True)
class Where:
    """A condition that is a function of the row."""

    test: Callable[[Any], bool]
    cost: int = 0
    mutable: bool = False

    def matches(self, row: Any, /) -> bool:
        return self.test(row)


def parse_filter(value: object, parse: Callable[[str, object], Condition[Any]]) -> Operator:
    """Return the filter; null matches everything. `parse` makes a condition of one property.

    Raises invalidArguments, unsupportedFilter.
    """
    return _FilterParser(parse).parse({} if value is None else value, 1)


class _FilterParser:
    """One filter under way, counting its conditions."""

    def __init__(self, parse: Callable[[str, object], Condition[Any]]) -> None:
        self._parse = parse
        self._conditions = 0

    def parse(self, value: object, depth: int) -> Operator:
        if not isinstance(value, dict):
            raise invalid("filter: a FilterOperator or FilterCondition is expected")
        if depth > FILTER_DEPTH_MAX:
            raise MethodError("unsupportedFilter", "the filter is nested too deeply")
        self._conditions += max(1, len(value))
        if self._conditions > FILTER_CONDITIONS_MAX:
            raise MethodError("unsupportedFilter", "the filter has too many conditions")
        if "operator" not in value:
            return all_of([self._parse(name, item) for name, item in value.items()])
        operator, conditions = value["operator"], value.get("conditions")
        if operator not in ("AND", "OR", "NOT") or not isinstance(conditions, list):
            raise invalid("filter: operator is AND, OR or NOT, conditions an array")
        if len(value) != 2:
            raise invalid("filter: a FilterOperator has an operator and conditions")
        return _operator(operator, [self.parse(item, depth + 1) for item in conditions])


def leaves(condition: Condition[Any]) -> Iterator[Condition[Any]]:
    """Yield the conditions that are no operators."""
    if isinstance(condition, Operator):
        for inner in condition.conditions:
            yield from leaves(inner)
    else:
        yield condition


def conjuncts(condition: Condition[Any]) -> Iterator[Condition[Any]]:
    """Yield conditions all of which must hold; operators other than AND stay whole."""
    if isinstance(condition, Operator) and condition.operator == "AND":
        for inner in condition.conditions:
            yield from conjuncts(inner)
    else:
        yield condition


# Sorting ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparator:
    """One property to sort by."""

    property: str
    ascending: bool = True
    collation: str = COLLATION_UNICODE
    keyword: str | None = None

    def collate(self, text: str) -> str:
        """Return what `text` is compared by."""
        if self.collation == COLLATION_ASCII:  # RFC 4790 §9.2.1
            return "".join(c.upper() if c.isascii() else c for c in text)
        # RFC 5051 §2, with full case folding where it has the older simple title case.
        return unicodedata.normalize("NFKD", text.casefold())


def parse_sort(value: object, known: Collection[str]) -> tuple[Comparator, ...]:
    """Return the comparators. Raises invalidArguments, unsupportedSort."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid("sort: an array of Comparators is expected")
    if len(value) > SORT_PROPERTIES_MAX:
        raise MethodError("unsupportedSort", "too many comparators")
    return tuple(_comparator(item, known) for item in value)


def _comparator(value: object, known: Collection[str]) -> Comparator:
    if not isinstance(value, dict):
        raise invalid("sort: a Comparator is expected")
    name = value.get("property")
    ascending = value.get("isAscending", True)
    collation = value.get("collation")
    keyword = value.get("keyword")
    if not isinstance(name, str) or not isinstance(ascending, bool):
        raise invalid("sort: property is a String, isAscending a Boolean")
    if not isinstance(collation, str | None) or not isinstance(keyword, str | None):
        raise invalid("sort: collation and keyword are Strings")
    if name not in known:
        raise MethodError("unsupportedSort", f"no sort by {name[:100]}")
    if collation is not None and collation not in COLLATIONS:
        raise MethodError("unsupportedSort", f"no collation {collation[:100]}")
    return Comparator(name, ascending, collation or COLLATION_UNICODE, keyword)


# Windows ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the results that is asked for."""

    position: int
    anchor: str | None
    anchor_offset: int
    limit: int
    limit_is_ours: bool
    calculate_total: bool

    def results_needed(self, anchor_index: int | None) -> int | None:
        """Return how many results from the start make the answer complete; None for all.

        `anchor_index` is where the anchor is, once it has been found. The total apart.
        """
        if self.anchor is not None:
            if anchor_index is None:
                return None
            return max(0, anchor_index + self.anchor_offset) + self.limit
        return None if self.position < 0 else self.position + self.limit

    def start(self, anchor_index: int | None, count: int) -> int:
        """Return the index of the first result to return. Raises anchorNotFound.

        `count` is the number of all results; only a negative position depends on it.
        """
        if self.anchor is not None:
            if anchor_index is None:
                raise MethodError("anchorNotFound")
            return max(0, anchor_index + self.anchor_offset)
        return self.position if self.position >= 0 else max(0, self.position + count)


def parse_window(arguments: Arguments) -> Window:
    """Take the arguments that say which results to return."""
    limit = arguments.optional_unsigned("limit")
    return Window(
        position=arguments.integer("position", 0),
        anchor=arguments.optional_id("anchor"),
        anchor_offset=arguments.integer("anchorOffset", 0),
        limit=QUERY_IDS_MAX if limit is None else min(limit, QUERY_IDS_MAX),
        limit_is_ours=limit is None or limit > QUERY_IDS_MAX,
        calculate_total=arguments.flag("calculateTotal"),
    )


@dataclass(slots=True)
class Results:
    """Results in order, as far as they are needed."""

    window: Window
    anchor: int | None  # the number that the anchor names; -1 when it names none of ours
    ids: list[int]
    anchor_index: int | None = None

    def add(self, number: int) -> bool:
        """Add the next result and say whether more are wanted."""
        if number == self.anchor and self.anchor_index is None:
            self.anchor_index = len(self.ids)
        self.ids.append(number)
        return not self.complete

    @property
    def complete(self) -> bool:
        """Say whether later results would change nothing; the total apart."""
        needed = self.window.results_needed(self.anchor_index)
        return needed is not None and len(self.ids) >= needed


def begin_results(window: Window, parse: Callable[[str], int | None]) -> Results:
    """Return results with none in them yet; `parse` reads the anchor's id."""
    if window.anchor is None:
        return Results(window, None, [])
    number = parse(window.anchor)
    return Results(window, -1 if number is None else number, [])


def query_response(
    context: Context,
    results: Results,
    *,
    query_state: str,
    id_of: Callable[[int], str],
    total: int | None = None,
) -> Mapping[str, object]:
    """Return the response of a `/query` call. `total` where it was had without counting.

    Raises anchorNotFound.
    """
    window = results.window
    start = window.start(results.anchor_index, len(results.ids))
    page = results.ids[start : start + window.limit]
    response: dict[str, object] = {
        "accountId": account_id_of(context.access.mailbox_id),
        "queryState": query_state,
        "canCalculateChanges": True,
        "position": start,
        "ids": [id_of(number) for number in page],
    }
    if window.calculate_total:
        response["total"] = len(results.ids) if total is None else total
    if window.limit_is_ours:
        response["limit"] = window.limit
    return response
