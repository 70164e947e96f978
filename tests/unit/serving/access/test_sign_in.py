"""Tokens of an identity provider: who is let in, what each gives, and that forged ones and a lost provider do not."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import yaml

from serving.access import issuer_keys
from serving.access.access import Access
from serving.access.identity import IDENTITY_NAME, IdentityFile, Rule, load_identity
from serving.access.keys import KeyFile
from serving.access.scopes import Limits, Scope
from serving.access.sign_in import SignIn
from serving.errors import IdentityFileError, IssuerUnavailableError, KeyRefusedError
from tests.identity_provider import AUDIENCE, IdentityProvider, make_certificate, make_key, public_jwk, running_provider

RULES = [
    {"claim": "groups", "equals": "shop", "scopes": ["infer"], "adapters": ["shop*"], "groups": ["payments"]},
    {"claim": "realm_access.roles", "equals": "release", "scopes": ["load", "promote"], "adapters": ["*"]},
    {"claim": "scope", "equals": "operate", "scopes": ["admin"]},
]


@pytest.fixture(scope="module")
def server() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        provider.private |= {"rsa": ("RS256", make_key("RS256")), "ed": ("EdDSA", make_key("EdDSA"))}
        yield provider


@pytest.fixture
def provider(server: IdentityProvider) -> IdentityProvider:
    """As it is at first."""
    server.bent.clear()
    server.asked.clear()
    server.described = {"issuer": server.issuer, "jwks_uri": f"{server.issuer}/keys"}
    server.publish("one")
    return server


@pytest.fixture
def clock(monkeypatch):
    """Seconds of the monotonic clock that can be added."""
    real, added = time.monotonic, [0.0]
    monkeypatch.setattr(issuer_keys.time, "monotonic", lambda: real() + added[0])
    return added


def identity(provider: IdentityProvider, **changes: object) -> IdentityFile:
    return IdentityFile.model_validate({"issuer": provider.issuer, "audience": AUDIENCE, "rules": RULES, **changes})


def sign_in(provider: IdentityProvider, **changes: object) -> SignIn:
    return SignIn(identity(provider, **changes))


def enter(one: SignIn, token: str):
    return asyncio.run(one.caller(token))


def refusal(one: SignIn, token: str) -> str:
    """Why it was refused."""
    with pytest.raises(KeyRefusedError) as caught:
        enter(one, token)
    return caught.value.reason


def test_claims_become_scopes_patterns_and_groups_by_the_rules_alone(provider):
    one = sign_in(provider, groups_claim="teams", tokens_per_day=9)
    shop = enter(one, provider.token(groups=["shop", "other"], teams=["secret-lab", 7]))
    assert (shop.name, shop.scopes, shop.adapters) == ("oidc:ada", frozenset({Scope.INFER}), ("shop*",))
    assert shop.groups == frozenset({"payments", "secret-lab"}) and shop.limits == Limits(None, 9, None)
    both = enter(one, provider.token(groups="shop", realm_access={"roles": ["release"]}))
    assert both.scopes == frozenset({Scope.INFER, Scope.LOAD, Scope.PROMOTE}) and both.adapters == ("shop*", "*")
    assert enter(one, provider.token(scope="openid operate")).scopes == frozenset({Scope.ADMIN})
    for claims in ({}, {"groups": ["Shop"]}, {"groups": {"shop": 1}}, {"groups": 1}, {"scopes": "operate"}):
        nobody = enter(one, provider.token(teams=["secret-lab"], **claims))
        assert nobody.scopes == nobody.groups == frozenset() and nobody.adapters == ()
        assert not nobody.may(*Scope) and not nobody.sees("shop")


@pytest.mark.parametrize("key_id", ["rsa", "ed", "one"])
def test_each_kind_of_key_is_taken_and_only_where_it_is_allowed(provider, key_id):
    provider.publish("one", "rsa", "ed")
    token = provider.token(key_id, headers={"typ": "at+jwt"})
    assert enter(sign_in(provider), token).name == "oidc:ada"
    others = [name for name in ("RS256", "ES256", "EdDSA") if name != provider.private[key_id][0]]
    assert "signed by" in refusal(sign_in(provider, algorithms=others), token)


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def forged(provider: IdentityProvider, header: dict[str, object], secret: bytes | None = None) -> str:
    """A token whose signature is made of a secret, or is none."""
    text = f"{part(header)}.{jwt.utils.base64url_encode(json.dumps(claims_of(provider)).encode()).decode()}"
    if secret is None:
        return text + "."
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def claims_of(provider: IdentityProvider) -> dict[str, object]:
    return jwt.decode(provider.token(groups=["shop"]), options={"verify_signature": False})


def test_forged_tokens_are_refused(provider):
    provider.publish("one", "rsa")
    one = sign_in(provider)
    public = json.dumps(provider.published["keys"][1]).encode()
    stranger = IdentityProvider(provider.issuer)
    good = provider.token(groups=["shop"])
    head, body, signature = good.split(".")
    changed = jwt.utils.base64url_encode(json.dumps({**claims_of(provider), "sub": "eve"}).encode()).decode()
    tokens = {
        "none": forged(provider, {"alg": "none", "kid": "one"}),
        "None": forged(provider, {"alg": "None", "kid": "one"}),
        "no algorithm": forged(provider, {"kid": "one"}),
        "the public key as a secret": forged(provider, {"alg": "HS256", "kid": "rsa"}, public),
        "another algorithm than the key's": forged(provider, {"alg": "RS256", "kid": "one"}, b"x"),
        "a key of its own": stranger.token(groups=["shop"]),
        "a key that it brings": stranger.token(
            headers={"jwk": public_jwk(stranger.private["one"][1], "ES256"), "jku": "http://evil.example/keys"}
        ),
        "changed claims": f"{head}.{changed}.{signature}",
        "no signature": f"{head}.{body}.",
        "critical": provider.token(headers={"crit": ["x"], "x": 1}),
        "another type": provider.token(headers={"typ": "logout+jwt"}),
        "an id that is no text": forged(provider, {"alg": "ES256", "kid": 1}, b"x"),
        "a header that is no object": f"{part([1])}.{body}.{signature}",
        "much nesting": f"{jwt.utils.base64url_encode(b'[' * 5000).decode()}.{body}.{signature}",
        "much text": provider.token(more="x" * 20_000),
    }
    for what, token in tokens.items():
        assert refusal(one, token), what
    assert enter(one, good).name == "oidc:ada"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "http://127.0.0.1:1"}, "issuer"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "udience"),
        ({"aud": None}, "aud"),
        ({"exp": 5}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": 10**400}, "too long"),
        ({"iat": None}, "iat"),
        ({"sub": None}, "without a sub"),
        ({"sub": 7}, "ub"),
        ({"sub": "a\nb"}, "without a sub"),
        ({"sub": "x" * 129}, "without a sub"),
    ],
)
def test_claims_that_do_not_hold_are_refused(provider, claims, reason):
    assert reason in refusal(sign_in(provider), provider.token(**claims))


def test_times_have_a_leeway_and_tokens_a_longest_life(provider):
    now, one = int(time.time()), sign_in(provider)
    assert enter(one, provider.token(exp=now - 30)) and enter(one, provider.token(nbf=now + 30))
    assert "expired" in refusal(one, provider.token(exp=now - 90))
    assert refusal(one, provider.token(nbf=now + 90)) and refusal(one, provider.token(iat=now + 90))
    assert "too long" in refusal(one, provider.token(exp=now + 86_500))
    assert enter(sign_in(provider, max_token_hours=48), provider.token(exp=now + 86_500))


def test_a_token_without_an_id_of_a_key_needs_that_there_is_one(provider):
    algorithm, key = provider.private["one"]
    token = jwt.encode(claims_of(provider), key, algorithm=algorithm)
    assert enter(sign_in(provider), token).name == "oidc:ada"
    provider.private["two"] = ("ES256", make_key("ES256"))
    provider.publish("one", "two")
    assert "unknown key" in refusal(sign_in(provider), token)


def test_a_new_key_is_asked_for_at_once_but_seldom(provider, clock):
    one = sign_in(provider)
    assert enter(one, provider.token())
    provider.private["next"] = ("ES256", make_key("ES256"))
    provider.publish("next")
    provider.asked.clear()
    assert "unknown key" in refusal(one, provider.token("next"))
    clock[0] += 31
    assert enter(one, provider.token("next")) and provider.asked.count("/keys") == 1
    # what is published no more is not taken any more, and strangers do not make it ask
    for number in range(20):
        assert refusal(one, provider.token(headers={"kid": f"x{number}"}))
        assert refusal(one, provider.token("one"))
    assert provider.asked.count("/keys") == 1


def test_known_keys_go_on_without_the_provider_until_they_are_too_old(provider, clock, caplog):
    one = sign_in(provider, max_key_age_hours=2)
    token = provider.token(exp=int(time.time()) + 9000)

    async def later(seconds: float):
        clock[0] += seconds
        caller = await one.caller(token)
        # it is asked for in the background
        await one._keys._reading
        return caller

    async def outage() -> None:
        assert await later(0)
        provider.bent["/keys"] = (503, b"")
        for _ in range(3):
            assert await later(2300)
        assert caplog.text.count("status 503") == 1 and len(caplog.records) == 1
        with pytest.raises(IssuerUnavailableError):
            await later(400)
        provider.bent.clear()
        assert await later(31)
        # and what the provider takes back counts no more soon
        provider.private["next"] = ("ES256", make_key("ES256"))
        provider.publish("next")
        assert await later(601)
        with pytest.raises(KeyRefusedError):
            await later(1)

    asyncio.run(outage())


LOST = {
    "an error": ("/keys", (500, b"")),
    "a redirect": ("/.well-known/openid-configuration", (302, b"")),
    "no JSON": ("/keys", (200, b"<html>")),
    "deep": ("/keys", (200, b"[" * 100_000)),
    "no set": ("/keys", (200, b'{"keys": 1}')),
    "empty": ("/keys", (200, b'{"keys": []}')),
}


@pytest.mark.parametrize("what", LOST)
def test_a_provider_that_does_not_tell_its_keys_lets_nobody_in(provider, what):
    path, answer = LOST[what]
    provider.bent[path] = answer
    with pytest.raises(IssuerUnavailableError):
        enter(sign_in(provider), provider.token())


@pytest.mark.parametrize("bend", ["large", "many"])
def test_a_key_set_has_its_bounds(provider, bend):
    good = provider.published["keys"]
    many = {"keys": good + [{**good[0], "kid": f"k{number}"} for number in range(64)]}
    provider.bent["/keys"] = (200, json.dumps(many if bend == "many" else provider.published).encode())
    if bend == "large":
        provider.bent["/keys"] = (200, provider.bent["/keys"][1] + b" " * (256 << 10))
    with pytest.raises(IssuerUnavailableError):
        enter(sign_in(provider), provider.token())


def test_a_provider_of_another_name_is_not_believed(provider, caplog):
    provider.described["issuer"] = provider.issuer + "/"
    with pytest.raises(IssuerUnavailableError):
        enter(sign_in(provider), provider.token())
    assert "does not describe itself" in caplog.text and "/keys" not in provider.asked


def test_keys_at_another_place_are_asked_for_only_where_the_file_names_it(provider, caplog):
    elsewhere = provider.issuer.replace("127.0.0.1", "localhost") + "/keys"
    provider.described["jwks_uri"] = elsewhere
    with pytest.raises(IssuerUnavailableError):
        enter(sign_in(provider), provider.token())
    assert "name that as jwks_url" in caplog.text and "/keys" not in provider.asked
    assert enter(sign_in(provider, jwks_url=elsewhere), provider.token())


def test_a_provider_is_believed_by_its_certificate_alone(tmp_path, caplog):
    own = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    with running_provider(own) as secure:
        assert enter(sign_in(secure, ca_file=own), secure.token()).name == "oidc:ada"
        secure.asked.clear()
        for wrong in (other, None, tmp_path / "none"):
            with pytest.raises(IssuerUnavailableError):
                enter(sign_in(secure, ca_file=wrong), secure.token())
        assert secure.asked == [] and "certificate" in caplog.text


def test_keys_that_are_not_for_this_are_passed_over(provider):
    algorithm, key = provider.private["one"]
    weak = make_key("RS256", bits=1024)
    provider.private["weak"] = ("RS256", weak)
    bad = [
        public_jwk(key, algorithm, kid="one", use="enc"),
        public_jwk(key, algorithm, kid="one", alg="ES384"),
        public_jwk(key, algorithm, kid="one", key_ops=["sign"]),
        jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True) | {"kid": "one"},
        {"kty": "oct", "kid": "one", "k": "eHh4"},
        {"kty": "EC", "crv": "P-256", "kid": "one", "x": "AA", "y": "AA"},
        "one",
        public_jwk(weak, "RS256", kid="weak"),
    ]
    provider.published = {"keys": bad}
    one = sign_in(provider)
    assert "unknown key" in refusal(one, provider.token())
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = provider.token("weak")
    assert "refused" in refusal(one, token)
    del provider.private["weak"]


def test_keys_from_a_file_need_no_provider(provider, tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(provider.published))
    one = sign_in(provider, jwks_file=file, issuer="https://login.corp.example")
    assert enter(one, provider.token(iss="https://login.corp.example")).name == "oidc:ada" and provider.asked == []
    with pytest.raises(IssuerUnavailableError):
        enter(sign_in(provider, jwks_file=tmp_path / "none"), provider.token())


@pytest.fixture
def served(tmp_path: Path, provider: IdentityProvider) -> Path:
    """The folder of what a home serves, with an identity file."""
    folder = tmp_path / "served"
    folder.mkdir()
    document = {"issuer": provider.issuer, "audience": AUDIENCE, "rules": RULES}
    (folder / IDENTITY_NAME).write_text(yaml.safe_dump(document))
    return folder


def ask(access: Access, *bearers: str):
    return asyncio.run(access.caller([f"Bearer {one}" for one in bearers]))


def test_keys_and_tokens_are_taken_side_by_side_and_nobody_else(served, provider):
    with Access.within(served, port=1) as access:
        assert not access.is_open
        for bearers in ((), ("x",), (provider.token(), provider.token()), ("a.b.c",)):
            with pytest.raises(KeyRefusedError):
                ask(access, *bearers)
        assert ask(access, provider.token()).name == "oidc:ada"
        _, key = KeyFile.within(served).create("ada", scopes=[Scope.INFER], adapters=[])
        # a key and a person of the same name are counted apart
        assert ask(access, key).name == "ada" and ask(access, provider.token()).name == "oidc:ada"
        with pytest.raises(KeyRefusedError):
            ask(access)


def test_a_home_without_the_file_takes_no_token(served, provider):
    (served / IDENTITY_NAME).unlink()
    _, key = KeyFile.within(served).create("ada", scopes=[Scope.INFER], adapters=[])
    with Access.within(served, port=1) as access:
        assert ask(access, key).name == "ada"
        with pytest.raises(KeyRefusedError):
            ask(access, provider.token())


WRONG = {
    "an unknown field": ("audience", "audence", "did you mean audience"),
    "plain http": ("issuer: ", "issuer: http://login.corp.example #", "must begin with https"),
    "no address": ("issuer: ", "issuer: login #", "issuer"),
    "no rules": ("rules:", "rules: []\nmore:", "rules"),
    "an unknown scope": ("- infer", "- read", "scopes"),
    "an algorithm with a secret": ("audience: ", "algorithms: [HS256]\naudience: ", "algorithms"),
    "no algorithm": ("audience: ", "algorithms: []\naudience: ", "algorithms"),
    "a pattern that is none": ("shop*", "[a]", "adapters"),
    "two places": ("audience: ", "jwks_file: a\njwks_url: https://b/c\naudience: ", "give one"),
    "a name with a password": ("issuer: ", "issuer: https://a:b@c.example #", "no address"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_with_mistakes_starts_no_server(served, what):
    before, after, said = WRONG[what]
    file = served / IDENTITY_NAME
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(IdentityFileError) as caught:
        load_identity(served)
    assert said in str(caught.value) and "identity.yaml:" in str(caught.value)
    with pytest.raises(IdentityFileError), Access.within(served, port=1):
        pass
    file.unlink()
    file.symlink_to("absent")
    with pytest.raises(IdentityFileError), Access.within(served, port=1):
        pass


def test_a_rule_gives_nothing_by_itself():
    rule = Rule(claim="groups", equals="shop")
    assert rule.scopes == rule.adapters == rule.groups == ()
