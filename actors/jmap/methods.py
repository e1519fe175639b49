"""Methods: every JMAP method there is, the capability it belongs to, and its code.

The module of a method is its path with `_` for `/`. A method takes a context and its
arguments, references resolved, and returns the arguments of its response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.core_echo import core_echo
from actors.jmap.email_changes import email_changes
from actors.jmap.email_get import email_get
from actors.jmap.email_query import email_query
from actors.jmap.email_query_changes import email_query_changes
from actors.jmap.email_set import email_set
from actors.jmap.limits import CAPABILITY_CORE, CAPABILITY_MAIL
from actors.jmap.mailbox_changes import mailbox_changes
from actors.jmap.mailbox_get import mailbox_get
from actors.jmap.mailbox_query import mailbox_query
from actors.jmap.mailbox_query_changes import mailbox_query_changes
from actors.jmap.search_snippet_get import search_snippet_get
from actors.jmap.thread_changes import thread_changes
from actors.jmap.thread_get import thread_get

Evaluate = Callable[[Context, Arguments], Awaitable[Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method: it can be called when its capability is in `using` (RFC 8620 §3.3)."""

    capability: str
    evaluate: Evaluate


METHODS: Mapping[str, Method] = {
    "Core/echo": Method(CAPABILITY_CORE, core_echo),
    "Mailbox/get": Method(CAPABILITY_MAIL, mailbox_get),
    "Mailbox/changes": Method(CAPABILITY_MAIL, mailbox_changes),
    "Mailbox/query": Method(CAPABILITY_MAIL, mailbox_query),
    "Mailbox/queryChanges": Method(CAPABILITY_MAIL, mailbox_query_changes),
    "Thread/get": Method(CAPABILITY_MAIL, thread_get),
    "Thread/changes": Method(CAPABILITY_MAIL, thread_changes),
    "Email/get": Method(CAPABILITY_MAIL, email_get),
    "Email/changes": Method(CAPABILITY_MAIL, email_changes),
    "Email/query": Method(CAPABILITY_MAIL, email_query),
    "Email/queryChanges": Method(CAPABILITY_MAIL, email_query_changes),
    "Email/set": Method(CAPABILITY_MAIL, email_set),
    "SearchSnippet/get": Method(CAPABILITY_MAIL, search_snippet_get),
}
