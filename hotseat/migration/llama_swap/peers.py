"""llama-swap's peers as upstreams."""

import re
from urllib.parse import urlsplit

from hotseat.migration.draft import REMOTE_NAME_LIMIT, Draft, DraftAlias, DraftModel, DraftUpstream, fit_name
from hotseat.migration.llama_swap.macros import MacroError, Macros
from hotseat.migration.reading import DocumentTable, number_of
from hotseat.migration.upstreams import settle_key, variable_for
from schemas.addresses import address_of

_ENV = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
LONGEST_CONNECT_S, LONGEST_ANSWER_S = 60.0, 3600.0
TIMEOUTS_LEFT = {
    "keepalive": "connections are kept for half a minute",
    "idleConn": "connections are kept for half a minute",
    "tlsHandshake": "is within the connect time",
    "expectContinue": "is not used",
}


def add_peers(draft: Draft, peers: DocumentTable, macros: Macros) -> None:
    """Each is asked at ``/v1`` below its address."""
    for name in peers:
        peer, where = peers.table(name), peers.path(name)
        try:
            base_url = _address(macros.expand(str(peer.get("proxy", ""))))
        except (MacroError, ValueError) as error:
            draft.leave(where, f"its proxy: {error}; there is no upstream without an address")
            peer.told()
            continue
        models = draft.texts(peer, "models")
        if not models or not (fit := fit_name(name)):
            draft.leave(where, "offers no models, or has no name")
            peer.told()
            continue
        upstream = DraftUpstream(name=fit, fields={"base_url": f"{base_url}/v1"})
        _key(draft, upstream, peer, macros)
        settle_key(draft, upstream, where)
        _timeouts(draft, upstream, peer.table("timeouts"))
        draft.upstreams.append(upstream)
        for model in models:
            _model(draft, upstream, model, peer, macros)
        if "inside" not in upstream.fields:
            draft.change(where, "is an upstream: nothing private goes there, and what it costs is not known")


def _address(text: str) -> str:
    base_url = text.rstrip("/")
    address_of(base_url, ("https", "http"))
    if urlsplit(base_url).query or urlsplit(base_url).fragment:
        raise ValueError("has a query")
    return base_url


def _key(draft: Draft, upstream: DraftUpstream, peer: DocumentTable, macros: Macros) -> None:
    key = peer.get("apiKey")
    if not key:
        return
    text = str(key).strip()
    for _ in range(3):  # a macro may stand for the variable
        if found := _ENV.fullmatch(text):
            upstream.fields["api_key_env"] = found[1]
            return
        text = str(macros.values.get(text[2:-1], text)).strip() if text.startswith("${") else text
    upstream.fields["api_key_env"] = variable = variable_for(upstream.name)
    why = "its macro is not defined" if text.startswith("${") else "a secret is not written into the file"
    draft.leave(peer.path("apiKey"), f"{why}: set {variable} where the broker runs")


def _timeouts(draft: Draft, upstream: DraftUpstream, table: DocumentTable) -> None:
    fields = (("connect", "connect_timeout_s", LONGEST_CONNECT_S), ("responseHeader", "first_byte_timeout_s", 0.0))
    for key, field, most in fields:
        seconds = number_of(value := table.get(key), most=most or LONGEST_ANSWER_S)
        if seconds:
            upstream.fields[field] = float(seconds)
        elif value not in (None, 0):
            draft.leave(table.path(key), f"not a number of seconds up to {most or LONGEST_ANSWER_S:g}")
    draft.leave_known(table, TIMEOUTS_LEFT)


def _model(draft: Draft, upstream: DraftUpstream, name: str, peer: DocumentTable, macros: Macros) -> None:
    where = f"{peer.path('models')}: {name}"
    fit = fit_name(name)
    if not fit or fit in draft.names() or len(name) > REMOTE_NAME_LIMIT:
        draft.leave(where, "the name is taken, too long, or has no letter or digit")
        return
    model = DraftModel(name=fit)
    if fit != name:
        model.fields["remote_name"] = name
        draft.add_alias(name, DraftAlias(candidates=(fit,)), where)
    filters = peer.table("filters")
    try:
        strip = macros.expand(str(filters.get("stripParams", "")))
        fixed = macros.inside(filters.get("setParams") or {})
    except MacroError as error:
        draft.leave(filters.where, str(error))
        strip, fixed = "", {}
    model.parameters.strip = [word for part in strip.split(",") if (word := part.strip()) and word != "model"]
    for key, value in fixed.items() if isinstance(fixed, dict) else ():
        draft.set_parameter(model.parameters.set, str(key), value, f"{filters.path('setParams')}.{key}")
    upstream.models.append(model)
