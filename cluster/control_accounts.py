"""ControlAccounts: domains, accounts and what belongs to them, on the control listener."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from actors.account_commands import QUOTA_OF_DOMAIN, NewAccount
from cluster.administration import Administration
from cluster.control_body import number_of, read_body, taken, text_of
from mail.errors import Invalid

BATCH_BYTES_MAX = 1 << 20  # a thousand long addresses
DOMAIN_KINDS = {"signup": str, "signups_per_day_max": int, "quota_bytes": int, "catch_all": str}
ACCOUNT_KINDS = {
    "display_name": str,
    "language": str,
    "time_zone": str,
    "role": str,
    "quota_bytes": int,
    "disabled": bool,
}


class AccountRoutes:
    """The routes, over an Administration that is there once the cluster works."""

    def __init__(self, administration: Callable[[], Administration]) -> None:
        self._ready = administration

    def routes(self) -> list[Route]:
        """Return the routes."""
        account = "/accounts/{address}"
        return [
            Route("/domains", self._domains, methods=["GET", "POST"]),
            Route("/domains/{domain}", self._domain, methods=["GET", "PATCH", "DELETE"]),
            Route("/domains/{domain}/invitations", self._post_invitation, methods=["POST"]),
            Route("/accounts", self._accounts, methods=["GET", "POST"]),
            Route("/accounts/batch", self._post_batch, methods=["POST"]),
            Route(account, self._account, methods=["PATCH", "DELETE"]),
            Route(f"{account}/password", self._put_password, methods=["PUT"]),
            Route(f"{account}/app-passwords", self._app_passwords, methods=["GET", "POST"]),
            Route(
                f"{account}/app-passwords/{{number:int}}",
                self._delete_app_password,
                methods=["DELETE"],
            ),
            Route(f"{account}/sessions", self._sessions, methods=["GET", "DELETE"]),
            Route(f"{account}/sessions/{{session}}", self._delete_session, methods=["DELETE"]),
            Route("/aliases", self._post_alias, methods=["POST"]),
            Route("/aliases/{alias}", self._delete_alias, methods=["DELETE"]),
        ]

    # Domains

    async def _domains(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"domains": await self._ready().domains()})
        body = await read_body(request)
        domain = text_of(body, "domain")
        changes = taken({n: v for n, v in body.items() if n != "domain"}, DOMAIN_KINDS)
        await self._ready().add_domain(domain)
        facts = await self._ready().set_domain(domain, **changes) if changes else {}
        return JSONResponse(facts | {"domain": domain}, 201)

    async def _domain(self, request: Request) -> Response:
        domain: str = request.path_params["domain"]
        if request.method == "DELETE":
            await self._ready().remove_domain(domain)
            return JSONResponse({})
        if request.method == "PATCH":
            changes = taken(await read_body(request), DOMAIN_KINDS)
            return JSONResponse(await self._ready().set_domain(domain, **changes))
        return JSONResponse(await self._ready().domain(domain))

    async def _post_invitation(self, request: Request) -> Response:
        body = await read_body(request)
        uses, days = number_of(body, "uses", 1), number_of(body, "days", 7)
        facts = await self._ready().invite(request.path_params["domain"], uses=uses, days=days)
        return JSONResponse(facts, 201)

    # Accounts

    async def _accounts(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"accounts": await self._ready().accounts()})
        body = await read_body(request)
        facts = await self._ready().add_account(
            text_of(body, "address"),
            text_of(body, "password"),
            quota_bytes=number_of(body, "quota_bytes", QUOTA_OF_DOMAIN),
            admin=body.get("admin") is True,
        )
        return JSONResponse(facts, 201)

    async def _post_batch(self, request: Request) -> Response:
        body = await read_body(request, bytes_max=BATCH_BYTES_MAX)
        quota_bytes = number_of(body, "quota_bytes", QUOTA_OF_DOMAIN)
        accounts = []
        lines = body.get("accounts")
        for line in lines if isinstance(lines, list) else ():
            match line:
                case [str(address), str(password)] if address:
                    accounts.append(NewAccount(address, password))
                case _:
                    raise Invalid("accounts is a list of [address, password or an empty text]")
        facts = await self._ready().add_accounts(accounts, quota_bytes=quota_bytes)
        return JSONResponse(facts, 201)

    async def _account(self, request: Request) -> Response:
        address: str = request.path_params["address"]
        if request.method == "DELETE":
            await self._ready().remove_account(address)
            return JSONResponse({})
        changes = taken(await read_body(request), ACCOUNT_KINDS)
        return JSONResponse(await self._ready().set_account(address, **changes))

    async def _put_password(self, request: Request) -> Response:
        body = await read_body(request)
        address, password = request.path_params["address"], text_of(body, "password")
        if body.get("end_app_passwords") is True:
            await self._ready().set_password(address, password, keeps_app_passwords=False)
        else:
            await self._ready().set_password(address, password)
        return JSONResponse({})

    async def _app_passwords(self, request: Request) -> Response:
        address: str = request.path_params["address"]
        if request.method == "GET":
            return JSONResponse({"app_passwords": await self._ready().app_passwords(address)})
        body = await read_body(request)
        label, scopes = body.get("label", ""), body.get("scopes")
        if not isinstance(label, str) or not isinstance(scopes, list):
            raise Invalid("label is a text, scopes a list of texts")
        facts = await self._ready().add_app_password(
            address, label=label, scopes=[str(scope) for scope in scopes]
        )
        return JSONResponse(facts, 201)

    async def _delete_app_password(self, request: Request) -> Response:
        number = request.path_params["number"]
        await self._ready().remove_app_password(request.path_params["address"], number)
        return JSONResponse({})

    async def _sessions(self, request: Request) -> Response:
        address: str = request.path_params["address"]
        if request.method == "GET":
            return JSONResponse({"sessions": await self._ready().sessions(address)})
        await self._ready().end_sessions(address)
        return JSONResponse({})

    async def _delete_session(self, request: Request) -> Response:
        try:
            session = int(request.path_params["session"], 16)
        except ValueError:
            session = 0
        if not 0 < session < 1 << 64:
            raise Invalid("a session is named by 16 hexadecimal digits")
        await self._ready().end_sessions(request.path_params["address"], session)
        return JSONResponse({})

    # Aliases

    async def _post_alias(self, request: Request) -> Response:
        body = await read_body(request)
        await self._ready().add_alias(text_of(body, "alias"), text_of(body, "address"))
        return JSONResponse({}, 201)

    async def _delete_alias(self, request: Request) -> Response:
        await self._ready().remove_alias(request.path_params["alias"])
        return JSONResponse({})
