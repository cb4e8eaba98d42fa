"""What imports of upstreams have in common."""

import re
from urllib.parse import urlsplit

from hotseat.migration.draft import Draft, DraftUpstream
from schemas.config.routing import is_nearby, is_somebody_elses


def variable_for(name: str) -> str:
    """A variable for an upstream's key, where the source had the key itself."""
    word = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"KEY_OF_{word}"[:128]


def settle_key(draft: Draft, upstream: DraftUpstream, where: str) -> None:
    """What asks for no key is a server of one's own, or gets a key that it does not look at."""
    if "api_key_env" in upstream.fields:
        return
    host = urlsplit(upstream.fields["base_url"]).hostname or ""
    if is_nearby(host) and not is_somebody_elses(host):
        upstream.fields["inside"] = True
        draft.change(
            where,
            "asks for no key, so it is taken for a server of your own (inside = true): private requests go there too. "
            "If it hands them on to a cloud, take that away and give it a key",
        )
        return
    upstream.fields["api_key_env"] = variable = variable_for(upstream.name)
    draft.change(
        where,
        f"asks for no key, which only a server of your own may: set {variable} to any text where the broker runs, or "
        "inside = true if it is yours",
    )
