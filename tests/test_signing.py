"""Requests to Amazon's hosts are signed over the very bytes that are sent, as AWS would check it."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.session
import httpx2
import pytest

from blackbox_diff.buying import signing
from blackbox_diff.buying.http import Endpoint
from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import ConfigError, MissingKeyError
from blackbox_diff.records import Call
from blackbox_diff.wire import DIALECTS
from blackbox_diff.wire.hosts import by_host
from tests.test_wire_requests import able, call_for

# AWS's published test suite for Signature Version 4 (aws-sig-v4-test-suite) signs with these.
ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
DATE = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC)
VECTORS = [
    ("get-vanilla", "GET", "https://example.amazonaws.com/", {}, None,
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-utf8", "GET", "https://example.amazonaws.com/ሴ", {}, None,
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("post-vanilla", "POST", "https://example.amazonaws.com/", {}, b"",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-x-www-form-urlencoded", "POST", "https://example.amazonaws.com/",
     {"Content-Type": "application/x-www-form-urlencoded"}, b"Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
]  # fmt: skip
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com"
ARN = "arn:aws:bedrock:us-east-1:123456789012:imported-model/a1b2c3"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLETOKEN//////////+session=="


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def signature(headers: Mapping[str, str]) -> str:
    return headers["Authorization"].rsplit("Signature=", 1)[1]


def checked_as_aws_does(request: httpx2.Request, service: str, region: str) -> None:
    """Recompute the signature from what arrived, by the published recipe and the standard library alone."""
    given = dict(
        part.strip().split("=", 1)
        for part in request.headers["authorization"][len("AWS4-HMAC-SHA256 ") :].split(",")
    )
    date = request.headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    assert given["Credential"] == f"{ACCESS}/{scope}"
    names = given["SignedHeaders"].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    path, _, query = request.url.raw_path.decode().partition("?")
    canonical = "\n".join(
        [request.method, quote(path, safe="/~"), query]
        + [f"{name}:{request.headers[name].strip()}" for name in names]
        + ["", ";".join(names), hashlib.sha256(request.content).hexdigest()]
    )
    signed = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert given["Signature"] == hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("method", "url", "sent", "content", "expected"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS]
)
def test_the_published_vectors_come_out(
    method: str,
    url: str,
    sent: dict[str, str],
    content: bytes | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: DATE.replace(tzinfo=None))
    signer = signing.Signer("service", "us-east-1", ACCESS, SECRET, None)
    assert signature(signer.headers(method, url, sent, content)) == expected


async def sent(config: EndpointConfig, call: Call) -> list[httpx2.Request]:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"message": f"you sent {TOKEN}"})

    async with Endpoint(config, transport=httpx2.MockTransport(answer)) as endpoint:
        replies = [await endpoint.post(call), await endpoint.get("/models")]
    if os.environ.get("AWS_SESSION_TOKEN"):
        assert all(TOKEN.encode() not in reply.body for reply in replies)
    return seen


@pytest.mark.parametrize("name", ["bedrock", "lmi"])
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_what_arrives_bears_a_signature_of_itself(
    name: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    profile = able(DIALECTS[name])
    service, region = ("bedrock", "us-east-1") if name == "bedrock" else ("sagemaker", "eu-central-1")
    config = EndpointConfig(url=profile.base_url, model=profile.model)
    for request in await sent(config, call_for(DIALECTS[name], "sample raw")):
        checked_as_aws_does(request, service, region)
        assert request.headers.get("x-amz-security-token") == token
        assert SECRET not in str(dict(request.headers))


async def test_a_changed_byte_does_not_bear_the_signature() -> None:
    call = call_for(DIALECTS["bedrock"], "sample raw")
    request = (await sent(EndpointConfig(url=BEDROCK, model=ARN), call))[0]
    forged = httpx2.Request("POST", request.url, headers=request.headers, content=request.content + b" ")
    with pytest.raises(AssertionError):
        checked_as_aws_does(forged, "bedrock", "us-east-1")


async def test_the_address_is_the_one_that_amazons_own_client_calls() -> None:
    """botocore's Bedrock client, stopped before it sends, against ours: the same URL, body and signature."""
    body = call_for(DIALECTS["bedrock"], "sample raw").body
    content = json.dumps(dict(body)).encode()
    session = botocore.session.Session()
    session.set_credentials(ACCESS, SECRET)
    client = session.create_client("bedrock-runtime", region_name="us-east-1")
    seen: list[botocore.awsrequest.AWSPreparedRequest] = []

    def stop(request: botocore.awsrequest.AWSPreparedRequest, **_: object) -> botocore.awsrequest.AWSResponse:
        seen.append(request)

        class Body:
            def stream(self, *_: object, **__: object) -> list[bytes]:
                return [b"{}"]

        return botocore.awsrequest.AWSResponse(request.url, 200, {}, Body())

    client.meta.events.register("before-send", stop)
    client.invoke_model(modelId=ARN, body=content, contentType="application/json")
    ours = (await sent(EndpointConfig(url=BEDROCK, model=ARN), call_for(DIALECTS["bedrock"], "sample raw")))[0]
    assert str(ours.url) == seen[0].url
    assert ours.content == seen[0].body == content
    headers = {
        name: value if isinstance(value, str) else value.decode() for name, value in seen[0].headers.items()
    }
    theirs = httpx2.Request("POST", seen[0].url, headers=headers, content=seen[0].body)
    checked_as_aws_does(theirs, "bedrock", "us-east-1")


async def test_a_bedrock_key_is_a_bearer_token_and_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSKexample")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    config = EndpointConfig(url=BEDROCK, model=ARN, key_env="AWS_BEARER_TOKEN_BEDROCK")
    request = (await sent(config, call_for(DIALECTS["bedrock"], "sample raw")))[0]
    assert request.headers["authorization"] == "Bearer ABSKexample"
    assert "x-amz-date" not in request.headers


def test_a_container_on_this_machine_is_not_signed_for() -> None:
    assert signing.signer(EndpointConfig(url="http://127.0.0.1:8080", model="m", dialect="lmi")) is None


def test_a_private_endpoint_of_amazons_is_signed_for_by_the_named_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com"
    assert by_host(url) == "bedrock"
    assert signing.signer(EndpointConfig(url=url, model=ARN)) is not None
    other = EndpointConfig(url="https://alias.vpce.amazonaws.com", model=ARN, dialect="bedrock")
    with pytest.raises(ConfigError, match="export AWS_REGION"):
        signing.signer(other)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert signing.signer(other) is not None


def test_a_name_that_only_looks_like_amazons_gets_no_signature() -> None:
    for url in ("https://bedrock-runtime.us-east-1.amazonaws.com.evil.example", "https://evilamazonaws.com"):
        assert by_host(url) is None
        assert signing.signer(EndpointConfig(url=url, model=ARN, dialect="bedrock")) is None


def test_missing_credentials_are_one_line_that_says_what_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(MissingKeyError, match="AWS_SECRET_ACCESS_KEY are not set: export them") as told:
        signing.signer(EndpointConfig(url=BEDROCK, model=ARN))
    assert ACCESS not in str(told.value)
    assert "\n" not in str(told.value)


def test_credentials_are_in_no_repr() -> None:
    signer = signing.signer(EndpointConfig(url=BEDROCK, model=ARN))
    assert SECRET not in f"{signer!r} {signer}"
