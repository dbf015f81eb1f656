"""Redeeming an activation code: one chooses one's own password."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from auth_service.api.doors import Stranger, TheService
from auth_service.api.envelope import documented
from auth_service.api.models import Redemption
from auth_service.limits import Audience
from auth_service.tokens import PEOPLE


def router(audience: Audience) -> APIRouter:
    """The route of one audience."""
    people_s = audience == PEOPLE
    routes = APIRouter(
        prefix="" if people_s else "/admin",
        tags=["signing in" if people_s else "administration: signing in"],
    )

    @routes.post(
        "/activation",
        status_code=204,
        response_class=Response,
        responses=documented(401, 403, 409, 429),
        summary="Choose a password with an activation code",
    )
    async def activate(body: Redemption, request: Request, service: TheService, by: Stranger) -> None:
        """The code is good once. Then sign in with the password.

        409 is for the right code too late: `code_used` says that somebody has used it before, `code_expired` that
        another must be asked for. A password that will not do (400) leaves the code good.
        """
        await service.activations.redeem(
            by,
            request.client.host if request.client else "",
            body.username,
            body.code,
            body.password,
            audience=audience,
        )

    return routes
