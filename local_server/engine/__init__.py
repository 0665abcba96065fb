"""What computes: jobs in, tokens with their logprobs out, batched in one thread."""
