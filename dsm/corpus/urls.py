"""When do two addresses mean the same page?

A crawl holds many spellings of one address. The canonical one keeps what tells pages apart (host, path, query) and
drops what does not: scheme, `www.`, default ports, users, fragments, session and campaign parameters, the order of
parameters, needless or missing percent signs, dot segments and a last slash. The rules are those of the Internet
Archive's canonicaliser as far as they are safe: paths keep their case, and slashes within them their number.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

import xxhash

VERSION = "1"
"""Raised when a rule changes: hashes of older page tables are not comparable then."""

_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_SCHEME = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://|(urn|dns|mailto|data|about|javascript|metadata|tel):(?!\d+([/?#]|$))", re.IGNORECASE
)
_IGNORED = re.compile("[\t\r\n]")  # within an address browsers ignore them
_EDGES = "".join(map(chr, range(0x21)))
_WWW = re.compile(r"^www\d*\.(?=[^.]+\.)")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})?")
_SESSION_PATH = re.compile(r";(jsessionid|sid|phpsessid)=[^/;?]*|/\((?:[a-z]\([0-9a-z]{24}\))+\)(?=/)", re.IGNORECASE)
_NOISE = re.compile(
    r"(utm_[a-z_]*|_?jsessionid|phpsessid|aspsessionid[a-z]*|cfid|cftoken|gclid|gbraid|wbraid|dclid|fbclid|msclkid|yclid|twclid"
    r"|igshid|mc_cid|mc_eid|_ga|_gl|_hsenc|_hsmi|mkt_tok|vero_id|wickedid)(=.*)?|(sid|s)=[0-9a-z]{16,}",
    re.IGNORECASE,
)
_PORTS = {"http": ":80", "https": ":443"}
_UNRESERVED = b"-._~" + bytes(range(48, 58)) + bytes(range(65, 91)) + bytes(range(97, 123))
_SAFE_PATH, _SAFE_QUERY = "/:@!$&'()*+,;=~%", "/:@!$'()*+,;?~=%[]|"


def canonical_url(url: str) -> str:
    """The spelling that all addresses of a page share, without the scheme: 'mathoverflow.net/questions/1?a=1'.

    An address that is not of the web (ftp, urn, ...) or cannot be taken apart keeps its scheme and is only trimmed.
    """
    found = _split(url)
    if found is None:
        return url.strip(_EDGES)
    host, port, path, query, fragment = found
    return f"{host}{port}{_without_last_slash(path)}{'?' + query if query else ''}{fragment}"


def url_hash(url: str) -> int:
    """The key of a page: xxh3_64 of its canonical address."""
    return xxhash.xxh3_64_intdigest(canonical_url(url).encode("utf-8", errors="replace"))


def domain_of(url: str) -> str:
    """The host, lower case and without `www.`: what the paper calls a base URL; '' where there is none."""
    found = _split(url)
    return found[0] if found else ""


def path_of(url: str) -> str:
    """The path as in the canonical address, which starts with a slash; without the query."""
    found = _split(url)
    return _without_last_slash(found[2]) or "/" if found else "/"


@lru_cache(maxsize=16)  # a page asks for its hash, domain and path in turn
def _split(url: str) -> tuple[str, str, str, str, str] | None:
    """Host, port with its colon, path, query and a `#!` fragment, each in its canonical spelling."""
    url = _IGNORED.sub("", url.strip(_EDGES))
    if url.startswith("<") and url.endswith(">"):  # older wgets wrote target addresses so
        url = url[1:-1].strip(_EDGES)
    url = url.replace("\\", "/") if "\\" in url else url
    if not _SCHEME.match(url):
        url = f"http://{url.lstrip(_EDGES + chr(47))}"
    match = _PARTS.fullmatch(url)
    if match is None or match[1].lower() not in _PORTS or not match[2]:
        return None
    scheme, authority, path, query, fragment = match.groups(default="")
    scheme, authority = scheme.lower(), authority.rpartition("@")[2]
    host, port = _host_and_port(authority, _PORTS[scheme])
    if not host:
        return None
    path = _without_dots(_SESSION_PATH.sub("", _escaped(_spelled(path), _SAFE_PATH)))
    hash_bang = _escaped(_spelled(fragment), _SAFE_QUERY) if fragment.startswith("!") else ""
    return host, port, path or "/", _query(query), f"#{hash_bang}" if hash_bang else ""


def _host_and_port(authority: str, default_port: str) -> tuple[str, str]:
    host, colon, port = authority.rpartition(":")
    if not colon or not ((port.isascii() and port.isdigit()) or not port):
        host, port = authority, ""
    port = f":{int(port)}" if port and len(port) < 10 else ""
    if "%" in host:
        host = unquote_to_bytes(host).decode("utf-8", errors="replace")
    host = host.strip(".").lower()
    if not host.isascii():
        host = _ascii_host(host)
    if re.search(r"[\s/?#@<>]", host) or (":" in host and not host.startswith("[")):
        return "", ""
    return _WWW.sub("", host), "" if port in (default_port, ":80", ":443") else port


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return quote(host, safe="")


def _spelled(text: str) -> str:
    """Percent escapes in upper case, none for what needs none; a stray percent sign becomes %25."""
    return _ESCAPE.sub(_escape, text) if "%" in text else text


def _escape(match: re.Match[str]) -> str:
    if match[1] is None:
        return "%25"
    code = int(match[1], 16)
    return chr(code) if code in _UNRESERVED else f"%{match[1].upper()}"


def _escaped(text: str, safe: str) -> str:
    return quote(text, safe=safe, errors="replace")


def _without_dots(path: str) -> str:
    """Without the segments `.` and `..` (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _query(query: str) -> str:
    """Parameters by name (those of one name keep their order), without sessions and campaigns."""
    if not query:
        return ""
    fields = [field for field in _escaped(_spelled(query), _SAFE_QUERY + "&").split("&") if field]
    fields = [field for field in fields if not _NOISE.fullmatch(field)]
    return "&".join(sorted(fields, key=lambda field: field.partition("=")[0]))


def _without_last_slash(path: str) -> str:
    return path.rstrip("/")
