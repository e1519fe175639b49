"""Blobs: upload (RFC 8620 §6.1) and download (RFC 8620 §6.2), for the owner alone.

What is downloaded was written by strangers: it is served as an attachment, under a sandbox
policy, with its type as told and not as guessed, so that no browser runs it as our page.
A blob id names its octets, so what was downloaded once never changes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from actors.account_commands import Access
from actors.commands import Account, BlobData
from gateways.http.context import Context
from gateways.http.ids import make_account_id, parse_account_id
from gateways.http.problem import Problem, limit_problem
from gateways.http.signin import require_mail, require_writable
from mail.errors import NotFound, Unavailable

DEFAULT_TYPE = "application/octet-stream"
CONTENT_SECURITY_POLICY = "sandbox; default-src 'none'"
SLICE_BYTES = 1 << 18  # handed to the socket at once: keeps a slow reader's buffer small
FILE_NAME_LENGTH_MAX = 200  # with an ending, within the 255 octets of most file systems

# RFC 6838 §4.2 (restricted names), and one harmless parameter.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"({_NAME}/{_NAME})(?:\s*;\s*charset=\"?([A-Za-z0-9_.:-]{{1,40}})\"?)?")
_BLOB_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # RFC 8620 §1.2
_ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187 §3.2.1, beside letters and digits
_UNSAFE_IN_NAME = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u2028-\u202e\u2066-\u2069]'
)


async def upload_response(request: Request, context: Context, access: Access) -> Response:
    """Store the body and return its blob id.

    Raises Problem 403 for a sign-in that may only read, 404 for an account that is not the
    client's own, 413 above maxSizeUpload.
    """
    require_mail(access)
    require_writable(access)
    account = access.account
    require_own_account(request, account)
    bytes_max = context.settings.size_upload_bytes_max
    too_large = limit_problem("maxSizeUpload", f"At most {bytes_max} octets.", status=413)
    with context.uploads.one(account.mailbox), context.bodies.body() as body:
        octets = await body.read(request, bytes_max=bytes_max, too_large=too_large)
        stored = await context.mail.upload(account, octets)
    answer = {
        "accountId": make_account_id(account.mailbox),
        "blobId": stored.blob_id,
        "type": safe_media_type(request.headers.get("content-type", "")),
        "size": stored.size_bytes,
    }
    return Response(
        msgspec.json.encode(answer),
        status_code=201,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def download_response(request: Request, context: Context, access: Access) -> Response:
    """Return a blob as an attachment. Raises Problem 403, 404, Unavailable."""
    require_mail(access)
    account = access.account
    require_own_account(request, account)
    blob_id: str = request.path_params["blob_id"]
    if not _BLOB_ID.fullmatch(blob_id):
        raise NotFound("no such blob")
    first = await context.mail.download(account, blob_id)
    headers = {
        "Content-Length": str(first.size_bytes),
        "Content-Type": safe_media_type(request.query_params.get("accept", "")),
        "Content-Disposition": content_disposition(request.path_params["name"]),
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, immutable, max-age=31536000",
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_pieces(context, account, blob_id, first), headers=headers)


async def _pieces(
    context: Context, account: Account, blob_id: str, first: BlobData
) -> AsyncIterator[bytes]:
    """Yield all octets of a blob. Raises when they end early, so that the client notices."""
    piece, offset = first, 0
    while True:
        for start in range(0, len(piece.data), SLICE_BYTES):
            yield piece.data[start : start + SLICE_BYTES]
        offset += len(piece.data)
        if offset >= first.size_bytes:
            return
        piece = await context.mail.download(account, blob_id, offset=offset)
        if not piece.data or piece.size_bytes != first.size_bytes:
            raise Unavailable("the blob ended early")


def require_own_account(request: Request, account: Account) -> None:
    """Refuse another's account as if it did not exist. Raises Problem 404."""
    if parse_account_id(request.path_params["account_id"]) != account.mailbox:
        raise Problem(404, "accountNotFound", detail="There is no such account.")


def safe_media_type(text: str) -> str:
    """Return a media type that is safe in a header, `application/octet-stream` else."""
    match = _MEDIA_TYPE.fullmatch(text.strip())
    if match is None:
        return DEFAULT_TYPE
    media_type = match[1].lower()
    if media_type.startswith(("multipart/", "message/")) and media_type != "message/rfc822":
        return DEFAULT_TYPE  # browsers once took these apart
    return media_type + (f"; charset={match[2].lower()}" if match[2] else "")


def safe_file_name(text: str) -> str:
    """Return a file name without paths, control characters or direction marks."""
    name = _UNSAFE_IN_NAME.sub("_", text).strip(" .")
    name = name.encode("utf-8", "replace").decode()
    if len(name) > FILE_NAME_LENGTH_MAX:
        stem, dot, ending = name.rpartition(".")
        keeps_ending = dot and stem and len(ending) <= 16
        tail = dot + ending if keeps_ending else ""
        name = name[: FILE_NAME_LENGTH_MAX - len(tail)] + tail
    return name or "download"


def content_disposition(text: str) -> str:
    """Return `attachment` with the name in both forms (RFC 6266 §4.3, RFC 8187 §3.2)."""
    name = safe_file_name(text)
    plain = re.sub(r"[^A-Za-z0-9 ._+()-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
