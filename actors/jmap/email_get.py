"""Email/get: emails by id, from records where that is enough (RFC 8621 §4.2)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context, pause
from actors.jmap.email_body import BodyValues, parse_part_properties
from actors.jmap.email_properties import EmailProperties, parse_properties
from actors.jmap.get import begin, check_count
from actors.jmap.ids import email_id_of, parse_email_id
from actors.jmap.limits import OBJECTS_IN_GET_MAX, ROWS_PER_STEP
from actors.jmap.problems import MethodError
from mail.errors import BlobDamaged
from storage.mailbox_reader import Blobs, MailboxReader
from storage.records import EmailRecord, EmailState


async def email_get(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return emails by id, or all of them if they are few enough.

    An email whose octets are asked for and damaged on disk is `notFound` among others, so that
    these are shown; alone it is `serverFail`, which says more.
    """
    get = begin(context, arguments)
    part_properties = parse_part_properties(arguments.optional_properties("bodyProperties"))
    body_values = BodyValues(
        text=arguments.flag("fetchTextBodyValues"),
        html=arguments.flag("fetchHTMLBodyValues"),
        all=arguments.flag("fetchAllBodyValues"),
        bytes_max=arguments.unsigned("maxBodyValueBytes", 0),
    )
    properties = parse_properties(get.properties, part_properties, body_values)
    arguments.close()
    reader = context.access.reader()
    state = str(reader.info.email_modseq)
    ids = _all(reader) if get.ids is None else get.ids
    # A message may take milliseconds to parse, a record some microseconds to read.
    step = 1 if properties.reads_message else ROWS_PER_STEP
    for done, email_id in enumerate(ids, 1):
        number = parse_email_id(email_id)
        email = None if number is None else reader.email(number)
        now = None if number is None else reader.email_state(number)
        if email is None or now is None:
            get.not_found.append(email_id)
        else:
            if properties.from_body:
                context.budget.read(email.size_bytes)
            value = _object(properties, email, now, context.access.blobs)
            if value is not None:
                get.add(context, value)
            elif len(ids) == 1:
                raise BlobDamaged
            else:
                get.not_found.append(email_id)
        if done % step == 0:
            await pause()
    return get.response(context, state)


def _object(
    properties: EmailProperties, email: EmailRecord, now: EmailState, blobs: Blobs
) -> dict[str, object] | None:
    """Return an Email object, None when its octets cannot be read."""
    try:
        return properties.of(email, now, blobs)
    except BlobDamaged:
        return None
    except KeyError:
        if blobs.size(email.digest) is None:
            return None
        raise


def _all(reader: MailboxReader) -> list[str]:
    if reader.info.emails > OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"more than {OBJECTS_IN_GET_MAX} objects")
    return check_count([email_id_of(line.email_id) for line in reader.listing()])
