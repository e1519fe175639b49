"""Thread/get (RFC 8621 §3.1); Thread/changes is with the other changes."""

from __future__ import annotations

from tests.unit.actors.jmap.memory_access import MemoryAccess, message


async def test_emails_by_date_of_arrival(access: MemoryAccess) -> None:
    late = access.add(message("a", message_id="1@x"), received_at_ms=3000)
    early = access.add(message("Re: a", reply_to_id="1@x"), received_at_ms=1000)
    same = access.add(message("Re: a", reply_to_id="1@x"), received_at_ms=3000)
    other = access.add(message("b"))
    result = await access.call("Thread/get", ids=["T1", "T9", "x"])
    assert result["list"] == [{"id": "T1", "emailIds": [early, late, same]}]
    assert result["notFound"] == ["T9", "x"]
    assert result["state"] == str(access.reader().info.thread_modseq)
    everything = await access.call("Thread/get", ids=None)
    assert {t["id"]: t["emailIds"] for t in everything["list"]} == {
        "T1": [early, late, same], "T2": [other],
    }  # fmt: skip
    assert (await access.call("Thread/get", ids=["T1"], properties=["id"]))["list"] == [
        {"id": "T1"}
    ]
    assert await access.refusal("Thread/get", ids=[], properties=["no"]) == "invalidArguments"


async def test_thread_goes_with_its_last_email(access: MemoryAccess) -> None:
    email = access.add(message("a"))
    await access.call("Email/set", destroy=[email])
    assert (await access.call("Thread/get", ids=["T1"]))["notFound"] == ["T1"]


async def test_all_of_too_many(access: MemoryAccess) -> None:
    for n in range(501):
        access.add(message(f"{n}"))
    assert await access.refusal("Thread/get", ids=None) == "requestTooLarge"
    assert await access.refusal("Email/get", ids=None) == "requestTooLarge"
