"""Browser apps of other origins: only those that the settings name, exactly.

PouchDB asks with `credentials: 'include'`, although it needs none but the `Authorization` header. Browsers then
want the very origin instead of `*`, and `Access-Control-Allow-Credentials`. There are no cookies that this could
let loose.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from passbook.origins import Origins
from sync_gateway.answers import CHECKED_AT, COMMON_HEADERS

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "DELETE, GET, HEAD, POST, PUT",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, If-None-Match",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = f"ETag, {CHECKED_AT}, Retry-After"


class Cors:
    """The rule for one set of origins; without origins nothing is added to any answer."""

    def __init__(self, origins: Origins | None = None) -> None:
        self._origins = Origins() if origins is None else origins

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether it may ask: one for every path, and without a credential."""
        if (
            request.method == hdrs.METH_OPTIONS
            and "Access-Control-Request-Method" in request.headers
            and self._origin(request) is not None
        ):
            return web.Response(status=204, headers={**COMMON_HEADERS, **_PREFLIGHT})
        return None

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what a browser needs to read this answer (a signal handler of aiohttp's)."""
        for given in request.headers.getall(hdrs.ORIGIN, [])[:1]:
            self._origins.note(given, request.host)
        if self._origins.empty:
            return
        vary = response.headers.get(hdrs.VARY)
        response.headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
        origin = self._origin(request)
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    def _origin(self, request: web.Request) -> str | None:
        """The request's origin as it was written, if it is one of ours."""
        given = request.headers.getall(hdrs.ORIGIN, [])
        return given[0] if len(given) == 1 and given[0] in self._origins else None
