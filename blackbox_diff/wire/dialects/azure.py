"""Azure OpenAI: OpenAI's bodies at another address. Read from SDK code and threads; not called live.

The endpoint's URL is https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT (the deployment decides
the model) or .../openai/v1, with --target-api-version; the client sends the key in the `api-key` header.
Old deployments answer 400 "Unrecognized request argument supplied: logprobs". Deployments are billed by
the hour on top of the tokens, and deleted after 15 idle days.
"""

from __future__ import annotations

from blackbox_diff.wire.dialects.openai import OpenAI


class Azure(OpenAI):
    name = "azure"
