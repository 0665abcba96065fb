"""An OpenAI-compatible server for local models, with full logprobs, echo and LoRA adapters.

    http    routes, the fields each takes, and the shapes of the replies
    engine  jobs in, tokens with their logprobs out, batched in one thread
    model   weights, adapters, vocabularies and the arithmetic of their layers

http imports engine, engine imports model, never the other way round.
"""
