"""LiteLLM's entries for servers of one's own as models of ours: one for each server, under however many names.

Rule: what only one name says of its requests stays with that name; what an entry says of the server is the model's.
"""

from dataclasses import dataclass, field

from hotseat.migration.draft import REMOTE_NAME_LIMIT, Draft, DraftModel, DraftParameters
from hotseat.migration.litellm.entry import Deployment, fill_info, fill_parameters, has_key, seconds_of
from hotseat.migration.litellm.providers import host_of
from hotseat.migration.reading import count_of

HOME_COST = "a model at home costs nothing here"
NO_COMMAND = (
    "LiteLLM knows an address, the worker needs a command; until then no worker can start it (or make it an upstream "
    "with inside = true)"
)
_Place = tuple[str, str, str]
"""What is loaded, where, and what for."""


@dataclass(slots=True)
class Servers:
    """What is known of them: which names lead to each, and what became of it."""

    draft: Draft
    _seen: dict[_Place, list[Deployment]] = field(default_factory=dict)
    _made: dict[_Place, DraftModel] = field(default_factory=dict)

    def see(self, one: Deployment) -> None:
        """Take note of an entry that is read."""
        self._seen.setdefault(_place(one), []).append(one)

    def sharing(self, one: Deployment) -> list[Deployment]:
        """The entries for its server, itself included."""
        return self._seen[_place(one)]

    def own_parameters(self, one: Deployment) -> DraftParameters:
        """What its name changes about a request, where other names of the server change something else."""
        return DraftParameters() if self.agree(one) else one.model.parameters

    def model_of(self, one: Deployment, name: str) -> str:
        """The name of its model, which is ``name`` if there is none yet; empty, and said so: there can be none."""
        place = _place(one)
        if (known := self._made.get(place)) is not None:
            self._join(one, known, self._seen[place][0])
            return known.name
        model = self.draft.new_model(name, one.label)
        if model is None:
            one.table.told()
            return ""
        self._made[place] = model
        model.fields |= one.model.fields
        if self.agree(one):
            model.parameters = one.model.parameters
        self._describe(one, model)
        return model.name

    def agree(self, one: Deployment) -> bool:
        """Do all names of its server change the same about a request?"""
        return all(other.model.parameters == one.model.parameters for other in self._seen[_place(one)])

    def _join(self, one: Deployment, known: DraftModel, first: Deployment) -> None:
        """Another name for it; what it alone says of the server is taken, and what is said differently is told."""
        self.draft.change(
            one.label, f"is the same server as {first.label}, so one model stands behind both names, and is loaded once"
        )
        for key, value in one.model.fields.items():
            if known.fields.setdefault(key, value) != value:
                self.draft.change(f"{one.label}: {key}", f"is the model's, as {first.label} says")

    def _describe(self, one: Deployment, model: DraftModel) -> None:
        if one.kind != "chat":
            model.fields["kind"] = one.kind
        if len(one.bare) > REMOTE_NAME_LIMIT:
            self.draft.leave(one.parameters.path("model"), f"longer than {REMOTE_NAME_LIMIT} characters")
        elif one.bare != model.name:
            model.fields["served_name"] = one.bare
        where = host_of(one.address) or "localhost"
        model.comments += [
            f"Served by {one.provider} at {where} until now. The worker starts its servers itself:",
            'add model_path and command = ["llama-server", …], as deploy/hotseat.toml.example has it.',
        ]
        self.draft.leave(one.parameters.path("api_base"), NO_COMMAND)


def fill_home(draft: Draft, one: Deployment, key: object) -> None:
    """Read what an entry says of its server and of its requests.

    Args:
        draft: Where it is told what has no place here.
        one: The entry, whose ``model`` is filled.
        key: What it says is the server's key.
    """
    if has_key(key):
        draft.leave(one.parameters.path("api_key"), "the worker makes a new key for its server at every start")
    _numbers(draft, one)
    table = one.parameters
    gateway = "time-outs of model servers are of the whole broker ([gateway])"
    retries = "a break before the first byte is tried again once"
    draft.leave_known(table, {"timeout": gateway, "stream_timeout": gateway})
    draft.leave_known(table, {"max_retries": retries, "num_retries": retries})
    for costs in (table, one.info):
        draft.leave_known(costs, {key: HOME_COST for key in costs if "_cost_per_" in key or "_cost" in key})
    fill_parameters(draft, one.model.parameters, table)
    fill_info(draft, one, {})
    _context(draft, one)


def _numbers(draft: Draft, one: Deployment) -> None:
    table, fields = one.parameters, one.model.fields
    limit = table.get("max_parallel_requests")
    if (count := count_of(limit, most=10_000)) is not None:
        fields["lease_limit"] = count
    elif limit is not None:
        draft.leave(table.path("max_parallel_requests"), "not a number of requests")
    kept = table.get("keep_alive")
    if kept is not None and (seconds := seconds_of(kept)) is not None and seconds > 0:
        fields["release_vram_after_s"] = seconds
    elif kept not in (None, -1, "-1", "-1m", "-1s"):
        why = "not a duration" if kept != 0 else "a model stays until its place is needed"
        draft.leave(table.path("keep_alive"), why)


def _context(draft: Draft, one: Deployment) -> None:
    size = one.parameters.get("num_ctx")
    if (tokens := count_of(size, most=100_000_000)) is not None:
        one.model.fields.setdefault("context_tokens", tokens)
        draft.change(one.parameters.path("num_ctx"), "is told to clients; its command must say it too")
    elif size is not None:
        draft.leave(one.parameters.path("num_ctx"), "not a number of tokens")


def _place(one: Deployment) -> _Place:
    address = (one.address or "").rstrip("/").removesuffix("/v1").rstrip("/")
    return one.bare, address.lower(), one.kind
