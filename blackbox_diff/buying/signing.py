"""Requests to Amazon's hosts, signed with an account's credentials (AWS Signature Version 4, by botocore).

A signature covers the method, the address and a digest of the body, so it is made of the very bytes that are sent,
anew for every attempt. Credentials come from the usual environment variables and from nowhere else: no file, no
metadata service.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import ConfigError, MissingKeyError
from blackbox_diff.wire import dialect
from blackbox_diff.wire.hosts import by_host, is_aws

REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
SIGNED = "content-type"  # of the headers that are sent anyway; the host and the date are always covered


class Signer:
    """Signs for one service in one region."""

    def __init__(self, service: str, region: str, access: str, secret: str, token: str | None) -> None:
        try:
            import botocore.auth
            import botocore.credentials
        except ImportError:
            raise ConfigError(
                "requests to Amazon's hosts are signed by botocore, which is not installed: "
                "pip install 'blackbox-diff[bedrock]'"
            ) from None
        self.sent_secret = token  # the secret key itself is never sent, and so can't come back
        credentials = botocore.credentials.Credentials(access, secret, token)
        self._auth = botocore.auth.SigV4Auth(credentials, service, region)

    def __repr__(self) -> str:
        return "Signer()"

    def headers(self, method: str, url: str, sent: Mapping[str, str], content: bytes | None) -> dict[str, str]:
        """The headers that sign a request, to be sent along with `sent`; `url` as it goes over the wire."""
        from botocore.awsrequest import AWSRequest

        covered = {name: value for name, value in sent.items() if name.lower() == SIGNED and content is not None}
        request = AWSRequest(method=method, url=url, headers=covered, data=content or b"")
        self._auth.add_auth(request)
        return {name: value for name, value in request.headers.items() if name.lower() != SIGNED}


def signer(config: EndpointConfig) -> Signer | None:
    """How requests to this endpoint are signed; None where they carry a key, or nothing.

    Raises MissingKeyError where the credentials are not in the environment, ConfigError where the region can't be
    told or botocore is not installed.
    """
    name = by_host(config.url) if config.dialect == "auto" else config.dialect
    service = dialect(name).signing if name is not None else None
    if service is None or config.key_env is not None or not is_aws(config.url):
        return None
    access, secret = (os.environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    if not access or not secret:
        bearer = ", or name the variable of a Bedrock API key as the key option" if service == "bedrock" else ""
        raise MissingKeyError(
            f"{config.url}: environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: export "
            f"them (and AWS_SESSION_TOKEN for temporary ones){bearer}"
        )
    return Signer(service, _region(config.url), access, secret, os.environ.get("AWS_SESSION_TOKEN") or None)


def _region(url: str) -> str:
    """The region of the host, else that of the environment."""
    labels = (urlsplit(url).hostname or "").split(".")
    found = next((label for label in labels if REGION.fullmatch(label)), None)
    found = found or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not found:
        raise ConfigError(f"{url}: names no AWS region: export AWS_REGION")
    return found
