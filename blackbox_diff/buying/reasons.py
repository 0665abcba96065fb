"""Why no reply came, called by its name: certificate, host, port, proxy, or the wrong one of http and https."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2

# What a TLS library says where the other side's first bytes are no TLS, or where it closes the connection at once.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST")
_ALERT = "illegal request line"  # what h11 calls an answer that begins with a control byte, as a TLS alert does


def why_no_connection(error: BaseException, url: str, *, proxied: bool) -> tuple[str, str]:
    """(snake_case word, what is wrong and what would do) of a connection to `url` that did not come about."""
    parts = urlsplit(url)
    proxy, variable = _proxy(url) if proxied else ("", "")
    host = urlsplit(proxy).hostname or proxy if proxy else parts.hostname
    through = f"the proxy {_bare(proxy)} that {variable} names" if proxy else ""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message or "it can't be checked"
            fix = "name its authority's file in SSL_CERT_FILE"
            return "certificate", f"its certificate is not trusted: {why}: {fix}, if you trust it"
        if isinstance(cause, ssl.SSLWantReadError):
            continue  # only says that the handshake was waiting
        if isinstance(cause, ssl.SSLError) and (cause.reason or "") in _NO_TLS:
            return "no_tls", f"speaks no TLS on that port: is it http:// in place of https://? ({cause.reason})"
        if isinstance(cause, ssl.SSLError):
            return "tls", f"no TLS connection came about ({cause.reason or 'unknown'})"
        if isinstance(cause, socket.gaierror):
            if proxy:
                return "proxy", f"{through} is no known host: correct or unset {variable}"
            return "unknown_host", f"no such host is known: {host}: check its spelling, and the network"
    if isinstance(error, httpx2.ProxyError):
        return "proxy", f"{through or 'the proxy'} refused to connect: {' '.join(str(error).split())[:100]}"
    if proxy:
        return "proxy", f"{through} does not answer: start it, unset {variable}, or name the host in NO_PROXY"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused", "nothing listens on that port: is the server running?"
    if isinstance(error, httpx2.TimeoutException):
        waiting = any(isinstance(cause, ssl.SSLWantReadError) for cause in causes)
        if waiting:
            return "no_tls", "does not answer in TLS on that port: is it http:// in place of https://?"
        return "connect_timeout", "no answer in time: check the host, the port and firewalls"
    return "connect_failed", "is the server running?"


def why_no_reply(error: BaseException, url: str, *, proxied: bool) -> tuple[str, str]:
    """Like why_no_connection, of a connection that brought no whole reply."""
    proxy, variable = _proxy(url) if proxied else ("", "")
    if isinstance(error, httpx2.RemoteProtocolError):
        hint = ": is it https:// in place of http://?" if url.startswith("http://") else ""
        if "without sending a response" in str(error):
            return "no_reply", f"closed the connection without a reply{hint}"
        if "without sending complete message body" in str(error):
            return "connection_lost", "the connection ended within the reply"
        if proxy:
            return "no_http", f"what came is no HTTP reply: look at the proxy {_bare(proxy)} that {variable} names"
        return "no_http", f"what came is no HTTP reply{hint if _ALERT in str(error) else ''}"
    return "connection_lost", "the connection broke within the reply"


def _proxy(url: str) -> tuple[str, str]:
    """The proxy that the environment names for `url`, and the variable; empty where there is none."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return "", ""
    named = urllib.request.getproxies()
    for scheme in (parts.scheme, "all"):
        if named.get(scheme):
            return named[scheme], f"{scheme.upper()}_PROXY"
    return "", ""


def _bare(proxy: str) -> str:
    """A proxy's address without the password that it may hold."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(20):
        if found is None:
            return
        yield found
        yield from found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        found = found.__cause__ or found.__context__
