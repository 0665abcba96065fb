"""The only room that touches the network: every call goes through a ledger, a limiter and the retry rules."""
