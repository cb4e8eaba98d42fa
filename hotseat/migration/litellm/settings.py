"""LiteLLM's settings beside its models: time-outs, retries, budgets, keys, fallbacks, other names."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hotseat.migration.draft import Draft
from hotseat.migration.litellm.entry import LONGEST_ANSWER_S, MOST_TRIES, Variables, seconds_of
from hotseat.migration.reading import DocumentTable, number_of
from hotseat.migration.yaml_file import one_line

DAY_S, MONTH_S = 86_400, (28 * 86_400, 31 * 86_400)
_CALLED = "/metrics and the log tell what happened; nothing is called"
_CACHE = "answers are not kept; model servers keep their own prompt caches"
LITELLM_LEFT = {
    **dict.fromkeys(
        ("callbacks", "success_callback", "failure_callback", "service_callback", "service_callbacks"), _CALLED
    ),
    **dict.fromkeys(("cache", "cache_params", "enable_caching_on_provider_specific_optional_params"), _CACHE),
    **dict.fromkeys(
        (
            "set_verbose",
            "json_logs",
            "turn_off_message_logging",
            "redact_user_api_key_info",
            "log_raw_request_response",
        ),
        "the log has no content; log_format and log_level are in [broker]",
    ),
    **dict.fromkeys(("drop_params", "modify_params"), "parameters pass as they come; parameters.strip names some"),
    **dict.fromkeys(("telemetry", "suppress_debug_info"), "nothing is reported to anybody"),
    **dict.fromkeys(("allowed_fails", "cooldown_time"), "an upstream's breaker opens after five failures in a row"),
    **dict.fromkeys(("max_fallbacks", "num_retries_per_request"), "each candidate is asked, in order"),
    **dict.fromkeys(
        ("default_team_settings", "default_internal_user_params", "upperbound_key_generate_params"),
        "keys are made with hotseat key new",
    ),
    **dict.fromkeys(("guardrails", "guardrail_settings"), "what may not leave is private ([routing])"),
    **dict.fromkeys(("ssl_verify", "force_ipv4", "aiohttp_trust_env"), "certificates are always checked"),
    "forward_traceparent_to_llm_provider": "an upstream is sent its key and what its protocol needs",
    "model_group_settings": "an upstream is sent its key and what its protocol needs",
    "content_policy_fallbacks": "what an upstream refuses to answer is its answer",
    "default_max_internal_user_budget": "budgets are of keys and of all together",
}
ROUTER_LEFT = {
    **dict.fromkeys(
        ("routing_strategy", "routing_strategy_args", "enable_tag_filtering", "optional_pre_call_checks"),
        "the first candidate that can serve in time does; prefer and deadline_s of an alias say more",
    ),
    **dict.fromkeys(
        ("allowed_fails", "cooldown_time", "disable_cooldowns", "allowed_fails_policy"),
        "an upstream's breaker opens after five failures in a row, for 15 s",
    ),
    **dict.fromkeys(
        ("redis_host", "redis_port", "redis_password", "redis_url", "cache_responses", "client_ttl", "caching_groups"),
        "the store is [store]",
    ),
    **dict.fromkeys(
        ("retry_policy", "retry_after", "model_group_retry_policy"), "what is worth another try is known by its status"
    ),
    "enable_pre_call_checks": "a context that is known is always checked",
    "provider_budget_config": "budgets are of keys and of all together",
    "content_policy_fallbacks": LITELLM_LEFT["content_policy_fallbacks"],
    "set_verbose": LITELLM_LEFT["set_verbose"],
    "debug_level": LITELLM_LEFT["set_verbose"],
    "max_fallbacks": LITELLM_LEFT["max_fallbacks"],
    "default_max_parallel_requests": "lease_limit is each model's own",
}
GENERAL_LEFT = {
    **dict.fromkeys(
        ("database_url", "store_model_in_db", "database_connection_pool_limit", "store_prompts_in_spend_logs"),
        "keys, teams, models and budgets that are in its database stay there",
    ),
    **dict.fromkeys(("alerting", "alerting_threshold", "alerting_args", "alert_types"), _CALLED),
    **dict.fromkeys(
        ("disable_spend_logs", "disable_error_logs", "maximum_spend_logs_retention_period", "proxy_batch_write_at"),
        "counts are kept by the day (report_kept_days), requests are not",
    ),
    **dict.fromkeys(
        ("allowed_routes", "public_routes", "admin_only_routes", "pass_through_endpoints"), "paths are fixed"
    ),
    **dict.fromkeys(
        (
            "enable_jwt_auth",
            "litellm_jwtauth",
            "custom_auth",
            "allow_user_auth",
            "enforce_user_param",
            "ui_access_mode",
        ),
        "callers have API keys ([[key]])",
    ),
    **dict.fromkeys(
        ("background_health_checks", "health_check_interval", "enable_health_check_routing"),
        "workers look after models, breakers after upstreams",
    ),
    **dict.fromkeys(("max_parallel_requests", "global_max_parallel_requests"), "lease_limit is each model's own"),
    "completion_model": "a request names its model",
    "forward_client_headers_to_llm_api": "an upstream is sent its key and what its protocol needs",
    "key_management_system": "keys of upstreams are in files or variables",
    "salt_key": "there is no database",
    "proxy_budget_rescheduler_max_time": "budgets are of UTC days and months",
    "proxy_budget_rescheduler_min_time": "budgets are of UTC days and months",
}


@dataclass(slots=True, kw_only=True)
class LiteLLMSettings:
    """What holds for every entry, unless the entry says otherwise."""

    timeout_s: float | None = None
    timeout_at: str = ""
    """Where the time-out is said, for messages; empty: nowhere."""
    stream_timeout_s: float | None = None
    stream_timeout_at: str = ""
    tries: int | None = None
    tries_at: str = ""
    fallbacks: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Where a fallback is said, the name, and the names that follow it."""
    aliases: list[tuple[str, str, object]] = field(default_factory=list)
    """Where another name is said, the name, and what it stands for."""
    has_budget: bool = False


def read_settings(draft: Draft, root: DocumentTable, variables: Variables) -> LiteLLMSettings:
    """Read the three sections that are not the model list; what is not carried over is noted in the draft."""
    litellm, router = root.table("litellm_settings"), root.table("router_settings")
    general = root.table("general_settings")
    found = LiteLLMSettings()
    for table in (litellm, router):  # the router's own win
        _times(draft, found, table)
        for key in ("fallbacks", "context_window_fallbacks"):
            found.fallbacks += _rules(draft, table, key, variables)
        defaults = draft.texts(table, "default_fallbacks")
        names = (_named(draft, table.path("default_fallbacks"), one, variables) for one in defaults)
        if known := [name for name in names if name is not None]:
            found.fallbacks.append((table.path("default_fallbacks"), "*", known))
    for table in (router, litellm, general):
        aliases = table.table("model_group_alias")
        found.aliases += [(aliases.path(name), name, aliases.get(name)) for name in aliases]
    _budget(draft, found, litellm, general)
    _master_key(draft, general, variables)
    draft.leave_known(litellm, LITELLM_LEFT)
    draft.leave_known(router, ROUTER_LEFT)
    draft.leave_known(general, GENERAL_LEFT)
    return found


def _times(draft: Draft, found: LiteLLMSettings, table: DocumentTable) -> None:
    for key in ("request_timeout", "timeout", "stream_timeout"):
        value = table.get(key)
        if value is None:
            continue
        seconds = seconds_of(value)
        if not seconds or seconds > LONGEST_ANSWER_S:
            draft.leave(table.path(key), f"not a number of seconds up to {LONGEST_ANSWER_S:g}")
        elif key == "stream_timeout":
            found.stream_timeout_s, found.stream_timeout_at = seconds, table.path(key)
        else:
            if found.timeout_s not in (None, seconds):
                draft.change(table.path(key), f"{seconds:g} s count, not the {found.timeout_s:g} that stand elsewhere")
            found.timeout_s, found.timeout_at = seconds, table.path(key)
    retries = table.get("num_retries")
    if retries is not None:
        tries = tries_of(draft, table.path("num_retries"), retries)
        if tries is not None and found.tries not in (None, tries):
            draft.change(table.path("num_retries"), f"{tries} tries count, not the {found.tries} that stand elsewhere")
        if tries is not None:
            found.tries, found.tries_at = tries, table.path("num_retries")


def tries_of(draft: Draft, where: str, retries: object) -> int | None:
    """Return how often one request is tried at one upstream; None, and said so: it is no number of retries."""
    count = number_of(retries, most=1000)
    if count is None or count != int(count):
        draft.leave(where, "not a number of retries")
        return None
    if count + 1 > MOST_TRIES:
        draft.change(where, f"an upstream is asked {MOST_TRIES} times at most, then the next candidate")
    return int(min(count + 1, MOST_TRIES))


def _rules(draft: Draft, table: DocumentTable, key: str, variables: Variables) -> list[tuple[str, str, list[str]]]:
    rules = table.get(key)
    found = []
    for rule in rules if isinstance(rules, list) else [] if rules is None else [rules]:
        for name, others in rule.items() if isinstance(rule, dict) else ():
            listed = others if isinstance(others, list) else [others]
            names = [_named(draft, table.path(key), one, variables) for one in (str(name), *listed)]
            if names[0] is not None:
                found.append((table.path(key), names[0], [one for one in names[1:] if one is not None]))
        if not isinstance(rule, dict):
            draft.leave(table.path(key), f"{one_line(rule)}: not of the form name: [names]")
    return found


def _named(draft: Draft, where: str, name: object, variables: Variables) -> str | None:
    """Return a name that a variable may stand for; None, and said so: there is none."""
    text, missing = variables.resolved(name)
    if text is None:
        draft.leave(where, f"the environment variable {missing} is not set here" if missing else "one is no name")
    return text


def _budget(draft: Draft, found: LiteLLMSettings, *tables: DocumentTable) -> None:
    for table in tables:
        amount, duration = table.get("max_budget"), table.get("budget_duration")
        if amount is None:
            if duration is not None:
                draft.leave(table.path("budget_duration"), "there is no max_budget beside it")
            continue
        seconds = seconds_of(duration) if duration is not None else None
        budget = number_of(amount)
        if budget is None:
            draft.leave(table.path("max_budget"), "not an amount")
            _left_duration(draft, table)
        elif seconds == DAY_S:
            draft.put("routing", "day_budget", float(budget))
            found.has_budget = True
        elif seconds is not None and MONTH_S[0] <= seconds <= MONTH_S[1]:
            draft.put("routing", "month_budget", float(budget))
            draft.change(table.path("budget_duration"), "begins anew with each calendar month (UTC)")
            found.has_budget = True
        else:
            draft.leave(
                table.path("max_budget"), "budgets are of a UTC day or month: day_budget, month_budget of [routing]"
            )
            _left_duration(draft, table)


def _left_duration(draft: Draft, table: DocumentTable) -> None:
    if table.get("budget_duration") is not None:
        draft.leave(table.path("budget_duration"), "its max_budget was not carried over")


def _master_key(draft: Draft, general: DocumentTable, variables: Variables) -> None:
    key = general.raw("master_key")
    draft.guarded = key is not None
    secret, missing = variables.resolved(key)
    if secret:
        draft.add_key("litellm-master", secret, scope="admin")
    elif key is not None:
        why = f"the environment variable {missing} is not set here" if missing else "is no text"
        draft.leave("general_settings.master_key", why)


def fallbacks_of(settings: LiteLLMSettings, name: str) -> Iterator[tuple[str, str]]:
    """Yield whom a name falls back to, in order, and where that is said; the defaults where it has none of its own."""
    own = [(where, other) for where, group, others in settings.fallbacks if group == name for other in others]
    general = [pair for pair in own if "context_window" not in pair[0]]
    defaults = [(where, other) for where, group, others in settings.fallbacks if group == "*" for other in others]
    yield from own
    if not general:
        yield from (pair for pair in defaults if pair[1] != name)
