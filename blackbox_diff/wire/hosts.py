"""Which dialect a host speaks, by its address alone: what is known before anything is sent."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Suffixes of host names. One that begins with a dot takes in hosts below it only.
HOSTS = (
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    (".cognitiveservices.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.mistral.ai", "mistral"),
    ("api.together.xyz", "together"),
    ("api.together.ai", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("tinker.thinkingmachines.dev", "tinker"),
    (".ml.cloud.ibm.com", "watsonx"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.studio.nebius.com", "nebius"),
    ("api.studio.nebius.ai", "nebius"),
    ("api.tokenfactory.nebius.com", "nebius"),
    (".api.baseten.co", "baseten"),
    ("inference.baseten.co", "baseten"),
    ("serving.app.predibase.com", "lorax"),
)
# AWS puts the region into the middle of the name: bedrock-runtime.us-east-1.amazonaws.com.
AWS = re.compile(r"(?:^|\.)(bedrock-runtime|runtime\.sagemaker)(?:-fips)?\.")
AWS_DIALECTS = {"bedrock-runtime": "bedrock", "runtime.sagemaker": "lmi"}
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
OLLAMA_PORT = 11434


def by_host(base_url: str) -> str | None:
    """The dialect's name, None where the address does not tell."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    for suffix, name in HOSTS:
        if host == suffix.lstrip(".") or host.endswith(suffix if suffix.startswith(".") else "." + suffix):
            return name
    service = AWS.search(host)
    if service is not None and is_aws(base_url):
        return AWS_DIALECTS[service[1]]
    return "ollama" if parts.port == OLLAMA_PORT else None


def is_aws(base_url: str) -> bool:
    """Whether the host is one of Amazon's, which take requests signed with an account's credentials."""
    return (urlsplit(base_url).hostname or "").endswith(AWS_DOMAINS)
