"""Access tokens that were tampered with, made up, or meant for others: refused at both doors, and never a 500."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry, serialize_compact

from auth_service.keys import ALGORITHM
from auth_service.service import Service
from auth_service.tokens import ADMINISTRATORS, PEOPLE
from passbook.servicedb.engine import ServiceDatabase
from tests.support.api import Api, Crowd, serving
from tests.support.databases import Postgres

DOORS = {PEOPLE: "/me", ADMINISTRATORS: "/admin/me"}
#: The order of the curve P-256.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def as_json(value: Any) -> str:
    return encoded(json.dumps(value).encode())


class Forger:
    """Has a good token of each door, and, where a test says so, the service's own key."""

    def __init__(self, service: Service, good: Mapping[str, str]) -> None:
        self.service = service
        self.good = dict(good)

    @property
    def kid(self) -> str:
        return self.service.keyring.signing()[0]

    @property
    def key(self) -> ECKey:
        return self.service.keyring.signing()[1]

    def header(self, **changed: Any) -> dict[str, Any]:
        return {"alg": ALGORITHM, "typ": "at+jwt", "kid": self.kid} | changed

    def claims(self, audience: str, **changed: Any) -> dict[str, Any]:
        """The claims of the good token; a value of `...` leaves one out."""
        claims = json.loads(decoded(self.good[audience].split(".")[1])) | changed
        return {name: value for name, value in claims.items() if value is not ...}

    def signed(self, header: Mapping[str, Any], claims: Any, key: ECKey | None = None) -> str:
        """Signed with the service's key (or another), whatever the header says."""
        return self.signed_parts(as_json(header), as_json(claims), key)

    def signed_parts(self, header: str, payload: str, key: ECKey | None = None) -> str:
        # joserfc signs exactly the header it is given; with one it would refuse, sign a harmless one's bytes.
        algorithm = JWSRegistry(algorithms=[ALGORITHM]).get_alg(ALGORITHM)
        signature = algorithm.sign(f"{header}.{payload}".encode(), key or self.key)
        return f"{header}.{payload}.{encoded(signature)}"


@pytest.fixture
async def forger(api: Api, crowd: Crowd) -> Forger:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    assert api.service is not None
    return Forger(
        api.service,
        {PEOPLE: await api.token("amina"), ADMINISTRATORS: await api.token("olga", administrator=True)},
    )


async def refused(api: Api, token: str, what: str, code: str = "token_invalid") -> None:
    """The token opens neither door, and both say so in the same way."""
    for path in DOORS.values():
        answer = await api.call("GET", path, token=token)
        assert (answer.status, answer.code) == (401, code), (what, path, answer.body)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), what


async def test_T19_what_the_forger_makes_with_the_right_key_and_claims_is_accepted(
    api: Api, forger: Forger
) -> None:
    """Else every refusal below could be for another reason than the one that is tested."""
    for audience, path in DOORS.items():
        token = forger.signed(forger.header(), forger.claims(audience))
        assert (await api.call("GET", path, token=token)).status == 200


async def test_T19_the_public_key_is_no_secret_for_a_keyed_hash(api: Api, forger: Forger) -> None:
    public = next(
        one for one in (await api.call("GET", "/.well-known/jwks.json"))["keys"] if one["kid"] == forger.kid
    )
    key = ECKey.import_key(public)
    secrets = {
        "PEM": key.as_pem(private=False),
        "PEM without its last line break": key.as_pem(private=False).strip(),
        "DER": key.as_der(private=False),
        "the JWK as it was answered": json.dumps(public).encode(),
        "the JWK without spaces": json.dumps(public, separators=(",", ":")).encode(),
        "the JWK sorted": json.dumps(public, sort_keys=True, separators=(",", ":")).encode(),
        "x": decoded(public["x"]),
        "x and y": decoded(public["x"]) + decoded(public["y"]),
        "the uncompressed point": key.public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        ),
        "nothing": b"",
    }
    for name, secret in secrets.items():
        for said, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512), (ALGORITHM, hashlib.sha256)):
            for audience in DOORS:
                text = f"{as_json(forger.header(alg=said))}.{as_json(forger.claims(audience))}"
                signature = encoded(hmac.new(secret, text.encode(), digest).digest())
                await refused(api, f"{text}.{signature}", f"{said} with {name}")


ALGORITHMS = ("none", "None", "nonE", "NONE", "", " ", None, 0, [], ["ES256"], {}, "es256", "ES256 ", "ES384")


async def test_T19_no_other_algorithm(api: Api, forger: Forger) -> None:
    for algorithm in ALGORITHMS:
        for audience, good in forger.good.items():
            header, claims = forger.header(alg=algorithm), forger.claims(audience)
            text = f"{as_json(header)}.{as_json(claims)}"
            await refused(api, f"{text}.", f"{algorithm!r} without a signature")
            await refused(api, f"{text}.{good.split('.')[2]}", f"{algorithm!r} with another signature")
            await refused(api, forger.signed(header, claims), f"{algorithm!r} signed with the key")
            await refused(api, text, f"{algorithm!r} in two parts")


KEY_IDS = (
    "",
    "key-00000000000000000000000000000000",
    "../../../../../../dev/null",
    "/proc/self/environ",
    "' OR '1'='1",
    "'; DROP TABLE signing_key; --",
    "key' UNION SELECT 'AA' --",
    "http://127.0.0.1/jwks.json",
    "*",
    "%",
    "\0",
    "\ud800",
    "k" * 500,
    None,
    0,
    True,
    [],
    {},
)


async def test_T19_a_key_id_finds_our_keys_alone(api: Api, forger: Forger) -> None:
    for kid in KEY_IDS:
        for audience in DOORS:
            await refused(api, forger.signed(forger.header(kid=kid), forger.claims(audience)), repr(kid))


async def test_T19_a_token_says_which_key_signed_it(api: Api, forger: Forger) -> None:
    for audience in DOORS:
        without = forger.header()
        del without["kid"]
        await refused(api, forger.signed(without, forger.claims(audience)), "no key id")
        stranger = ECKey.generate_key("P-256", private=True)
        await refused(api, forger.signed(forger.header(), forger.claims(audience), stranger), "another key")


async def test_T19_after_a_rotation_each_key_verifies_its_own_tokens_alone(
    api: Api, forger: Forger, database: ServiceDatabase
) -> None:
    from datetime import timedelta

    from auth_service import keys
    from tests.support.actors import TESTER
    from tests.support.api import SECRET

    old, old_kid = forger.key, forger.kid
    with database.begin() as connection:
        new_kid = keys.rotate(connection, TESTER, SECRET, tokens_live=timedelta(seconds=600))
    forger.service.keyring._read_at = float("-inf")
    assert (old_kid, new_kid) == (old_kid, forger.kid)
    for audience, path in DOORS.items():
        claims = forger.claims(audience)
        assert (await api.call("GET", path, token=forger.good[audience])).status == 200
        await refused(api, forger.signed(forger.header(kid=new_kid), claims, old), "the old key as the new one")
        await refused(api, forger.signed(forger.header(kid=old_kid), claims), "the new key as the old one")


async def test_T19_the_sender_chooses_neither_key_nor_rules(api: Api, forger: Forger) -> None:
    """What RFC 7515 lets a header carry besides: an attacker's own key, or where to fetch it."""
    own = ECKey.generate_key("P-256", private=True)
    public = own.as_dict(private=False)
    injected: list[dict[str, Any]] = [
        {"jwk": public},
        {"jwk": public, "kid": "their-own"},
        {"jku": f"{api.url}/.well-known/jwks.json"},
        {"jku": "http://127.0.0.1:9/jwks.json"},
        {"x5u": "http://127.0.0.1:9/chain.pem"},
        {"x5c": [base64.b64encode(own.as_der(private=False)).decode()]},
        {"x5t": "AAAA"},
        {"crit": ["exp"], "exp": 9999999999},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ]
    for more in injected:
        for audience in DOORS:
            claims = forger.claims(audience)
            await refused(api, forger.signed(forger.header(**more), claims, own), f"{more}, own key")
            await refused(api, forger.signed(forger.header(**more), claims), f"{more}, our key")


def wrong_claims(now: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What must not hold although our own key signed it."""
    for audience in (
        "",
        None,
        0,
        ...,
        "passbook-other",
        "Passbook",
        [PEOPLE],
        [ADMINISTRATORS],
        [PEOPLE, ADMINISTRATORS],
        {PEOPLE: True},
    ):
        yield f"aud {audience}", {"aud": audience}
    for issuer in (..., "", None, "http://evil.example", "http://127.0.0.1:8720/", ["http://127.0.0.1:8720"]):
        yield f"iss {issuer}", {"iss": issuer}
    for expires in (
        ...,
        None,
        "9999",
        "9999999999",
        str(now + 300),
        "",
        now + 300.0,
        now + 300.5,
        1e308,
        True,
        False,
        [],
        [now + 300],
        {},
        {"a": now + 300},
        now + 100_000,
        2**31,
        2**63,
        2**64,
        10**400,
        0,
        -1,
        -(10**400),
        now,
        now - 1,
    ):
        yield f"exp {expires}"[:60], {"exp": expires}
    for issued in (..., None, "0", str(now), float(now), True, now + 60, now + 3600, 10**400, [], now - 100_000, 0):
        yield f"iat {issued}"[:60], {"iat": issued}
    yield "iat and exp far ahead", {"iat": now + 86_400, "exp": now + 86_700}
    yield "iat long ago, exp to come", {"iat": now - 86_400, "exp": now + 300}
    yield "expired like the good one", {"iat": now - 1000, "exp": now - 400}
    for subject in (..., None, 0, True, [], ["person"], {}):
        yield f"sub {subject}", {"sub": subject}
        yield f"sid {subject}", {"sid": subject}


async def test_T19_wrong_claims_do_not_hold_whoever_signed_them(api: Api, forger: Forger) -> None:
    assert forger.service.settings.auth_url == "http://127.0.0.1:8720"
    for what, changed in wrong_claims(int(time.time())):
        for audience in DOORS:
            token = forger.signed(forger.header(), forger.claims(audience, **changed))
            await refused(api, token, f"{audience}: {what}")


async def test_T19_times_that_json_should_not_have(api: Api, forger: Forger) -> None:
    for spelt in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 1000, "0x7fffffff", "1_000"):
        for audience in DOORS:
            text = json.dumps(forger.claims(audience, exp="EXP")).replace('"EXP"', spelt)
            token = forger.signed_parts(as_json(forger.header()), encoded(text.encode()))
            await refused(api, token, spelt)


async def test_T19_a_claim_that_stands_there_twice_is_read_once(api: Api, forger: Forger) -> None:
    """Whichever of the two counts: what is checked and what is used are the same."""
    claims = json.dumps(forger.claims(PEOPLE))
    other = f'"aud": "{ADMINISTRATORS}"'
    for twice in (f"{claims[:-1]}, {other}}}", f"{{{other}, {claims[1:]}"):
        token = forger.signed_parts(as_json(forger.header()), encoded(twice.encode()))
        answers = [await api.call("GET", path, token=token) for path in DOORS.values()]
        assert answers[1].status == 401
        assert answers[0].status in (200, 401)


async def test_T19_only_access_tokens(api: Api, forger: Forger) -> None:
    for typ in ("JWT", "jwt", "AT+JWT", "application/at+jwt", "rt+jwt", "", None, 1, ...):
        header = {name: value for name, value in forger.header(typ=typ).items() if value is not ...}
        for audience in DOORS:
            await refused(api, forger.signed(header, forger.claims(audience)), repr(typ))


def signatures(good: bytes) -> Iterator[tuple[str, bytes]]:
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")

    def pair(one: int, other: int) -> bytes:
        return one.to_bytes(32, "big") + other.to_bytes(32, "big")

    yield "empty", b""
    yield "all zero", bytes(64)
    yield "r zero", pair(0, s)
    yield "s zero", pair(r, 0)
    yield "r and s one", pair(1, 1)
    yield "the order twice", pair(ORDER, ORDER)
    yield "s of the order", pair(r, ORDER)
    yield "all ones", b"\xff" * 64
    yield "truncated by one", good[:-1]
    yield "half", good[:32]
    yield "one byte", good[:1]
    yield "one more", good + b"\0"
    yield "a zero before", b"\0" + good
    yield "twice", good + good
    yield "DER", encode_dss_signature(r, s)
    yield "DER of zeros", encode_dss_signature(0, 0)
    yield "swapped", pair(s, r)


async def test_T19_signatures_that_are_none(api: Api, forger: Forger) -> None:
    for good in forger.good.values():
        text, _, last = good.rpartition(".")
        for what, signature in signatures(decoded(last)):
            await refused(api, f"{text}.{encoded(signature)}", what)
        for what, end in {
            "padding": last + "==",
            "a letter outside the alphabet": last[:-1] + "!",
            "a space": last[:40] + " " + last[40:],
            "a fourth part": last + ".",
        }.items():
            await refused(api, f"{text}.{end}", what)


async def test_T19_a_token_of_another_service_is_none_here(
    api: Api, forger: Forger, pg: Postgres, migrated: str
) -> None:
    with pg.database(migrated) as other_url:
        other_database = ServiceDatabase(other_url)
        async with serving(other_url) as other:
            crowd = Crowd(other_database)
            crowd.person("amina")
            crowd.administrator("olga", "owner")
            await refused(api, await other.token("amina"), "people")
            await refused(api, await other.token("olga", administrator=True), "administrators")
        other_database.dispose()


async def test_T19_each_door_refuses_the_other_s_tokens(api: Api, forger: Forger) -> None:
    for audience, other in ((PEOPLE, ADMINISTRATORS), (ADMINISTRATORS, PEOPLE)):
        answer = await api.call("GET", DOORS[other], token=forger.good[audience])
        assert (answer.status, answer.code) == (401, "wrong_audience")
        # The right signature and the other audience: the session is still that of somebody else's door.
        moved = forger.signed(forger.header(), forger.claims(audience, aud=other))
        answer = await api.call("GET", DOORS[other], token=moved)
        assert (answer.status, answer.code) == (401, "session_ended")


async def test_T19_a_session_belongs_to_its_subject(api: Api, crowd: Crowd, forger: Forger) -> None:
    crowd.person("bela")
    crowd.administrator("otto", "owner")
    others = {PEOPLE: await api.token("bela"), ADMINISTRATORS: await api.token("otto", administrator=True)}
    for audience, path in DOORS.items():
        theirs = json.loads(decoded(others[audience].split(".")[1]))
        for changed in (
            {"sub": theirs["sub"]},
            {"sid": theirs["sid"]},
            {"sid": "session-none"},
            {"sub": "", "sid": ""},
        ):
            answer = await api.call(
                "GET", path, token=forger.signed(forger.header(), forger.claims(audience, **changed))
            )
            assert (answer.status, answer.code) == (401, "session_ended"), changed


async def test_T19_what_is_no_token_at_all(api: Api, forger: Forger) -> None:
    deep = encoded(b"[" * 1400)
    header, payload, signature = forger.good[PEOPLE].split(".")
    for token in (
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        f"{deep}..",
        f"{deep}.{payload}.{signature}",
        f"{header}.{deep}.{signature}",
        f"{encoded(b'[]')}.{payload}.{signature}",
        f"{encoded(b'null')}.{payload}.{signature}",
        f"{encoded(b'1')}.{payload}.{signature}",
        f"{encoded(b'[1,2]')}.{payload}.{signature}",
        f"{as_json(['alg'])}.{payload}.{signature}",
        f"{as_json('alg')}.{payload}.{signature}",
        f"{encoded(b'{')}.{payload}.{signature}",
        f"{encoded(bytes([0xFF, 0xFE]))}.{payload}.{signature}",
        f"{header}.{encoded(b'[]')}.{signature}",
        "A" * 2048,
        "A" * 5000,
        "a.b.c.d.e",
        '{"payload": "x"}',
        serialize_compact({"alg": ALGORITHM, "kid": forger.kid, "typ": "at+jwt"}, b"not json", forger.key),
        forger.signed(forger.header(), []),
        forger.signed(forger.header(), None),
        forger.signed(forger.header(), "text"),
        forger.signed_parts(as_json(forger.header()), encoded(b"[" * 1000)),
        forger.signed_parts(as_json(forger.header()), encoded(b'{"a":' * 200)),
    ):
        await refused(api, token, token[:60])
    for authorization in (
        "Bearer",
        "Bearer ",
        "Basic eDp5",
        "bearer",
        "Token x",
        "",
        "Bearer \u00e9",
        "Bearer a b",
    ):
        for path in DOORS.values():
            answer = await api.call("GET", path, headers={"Authorization": authorization})
            assert answer.status == 401, authorization
            assert answer.code in ("token_missing", "token_invalid")


async def test_T19_no_bit_of_a_token_may_change(forger: Forger) -> None:
    good = forger.good[PEOPLE]
    tokens = forger.service.tokens
    assert tokens.check(good) is not None

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def altered(data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(good) - 1))
        letter = data.draw(st.characters(max_codepoint=0x2FF))
        changed = good[:place] + letter + good[place + 1 :]
        if changed == good:
            return
        # Two bits at the very end of a part stand for nothing: the bytes that are signed stay the same.
        same = [decoded(one) for one in good.split(".")] == _bytes(changed)
        assert tokens.check(changed) is None or same, changed

    altered()


def _bytes(token: str) -> list[bytes] | None:
    try:
        return [decoded(part) for part in token.split(".")]
    except ValueError:
        return None
