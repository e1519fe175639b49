"""The JMAP Session object: what there is, for whom, and where (RFC 8620 §2).

Its URLs are built from the request's own scheme and host, so that a client stays on the way
it came. Its `state` is a hash of what depends on the account, not of the URLs: the same
session seen through another name is the same session.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from starlette.responses import Response

from actors.account_commands import Access
from actors.jmap.limits import (
    CALLS_IN_REQUEST_MAX,
    CAPABILITY_CORE,
    CAPABILITY_MAIL,
    CAPABILITY_WEBSOCKET,
    COLLATIONS,
    EMAIL_SORT_PROPERTIES,
    FOLDERS_PER_EMAIL_MAX,
    OBJECTS_IN_GET_MAX,
    OBJECTS_IN_SET_MAX,
)
from gateways.http.ids import make_account_id
from gateways.http.settings import HttpSettings
from mail.folders import FOLDER_NAME_BYTES_MAX


def core_capability(settings: HttpSettings) -> dict[str, Any]:
    """Return the limits of `urn:ietf:params:jmap:core` (RFC 8620 §2)."""
    return {
        "maxSizeUpload": settings.size_upload_bytes_max,
        "maxConcurrentUpload": settings.concurrent_uploads_max,
        "maxSizeRequest": settings.request_bytes_max,
        "maxConcurrentRequests": settings.concurrent_requests_max,
        "maxCallsInRequest": CALLS_IN_REQUEST_MAX,
        "maxObjectsInGet": OBJECTS_IN_GET_MAX,
        "maxObjectsInSet": OBJECTS_IN_SET_MAX,
        "collationAlgorithms": list(COLLATIONS),
    }


def mail_capability(settings: HttpSettings, *, read_only: bool) -> dict[str, Any]:
    """Return what `urn:ietf:params:jmap:mail` means for an account (RFC 8621 §1.3.1)."""
    return {
        "maxMailboxesPerEmail": FOLDERS_PER_EMAIL_MAX,
        "maxMailboxDepth": None,
        "maxSizeMailboxName": FOLDER_NAME_BYTES_MAX,
        "maxSizeAttachmentsPerEmail": settings.attachments_bytes_max,
        "emailQuerySortOptions": list(EMAIL_SORT_PROPERTIES),
        "mayCreateTopLevelMailbox": not read_only,
    }


def session_state(access: Access, settings: HttpSettings) -> str:
    """Return a string that changes when the session does (RFC 8620 §2, `state`)."""
    parts = (_account_parts(access, settings), core_capability(settings))
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def session_object(access: Access, settings: HttpSettings, base_url: str) -> dict[str, Any]:
    """Return the Session object; `base_url` is `http[s]://host[:port]`."""
    assert base_url.startswith("http")
    websocket_url = "ws" + base_url.removeprefix("http")
    return {
        "capabilities": {
            CAPABILITY_CORE: core_capability(settings),
            CAPABILITY_MAIL: {},
            CAPABILITY_WEBSOCKET: {"url": f"{websocket_url}/jmap/ws", "supportsPush": True},
        },
        **_account_parts(access, settings),
        "apiUrl": f"{base_url}/jmap/api",
        "downloadUrl": (
            f"{base_url}/jmap/download/{{accountId}}/{{blobId}}/{{name}}?accept={{type}}"
        ),
        "uploadUrl": f"{base_url}/jmap/upload/{{accountId}}/",
        "eventSourceUrl": (
            f"{base_url}/jmap/eventsource?types={{types}}&closeafter={{closeafter}}&ping={{ping}}"
        ),
        "state": session_state(access, settings),
    }


def _account_parts(access: Access, settings: HttpSettings) -> dict[str, Any]:
    account = access.account
    account_id = make_account_id(account.mailbox)
    return {
        "accounts": {
            account_id: {
                "name": account.address,
                "isPersonal": True,
                "isReadOnly": access.is_read_only,
                "accountCapabilities": {
                    CAPABILITY_CORE: {},
                    CAPABILITY_MAIL: mail_capability(settings, read_only=access.is_read_only),
                },
            }
        },
        "primaryAccounts": {CAPABILITY_CORE: account_id, CAPABILITY_MAIL: account_id},
        "username": account.address,
    }


def session_response(access: Access, settings: HttpSettings, base_url: str) -> Response:
    """Return the Session object as a response that is never stored (RFC 8620 §2)."""
    return Response(
        msgspec.json.encode(session_object(access, settings, base_url)),
        media_type="application/json",
        headers={"Cache-Control": "no-cache, no-store, must-revalidate"},
    )
