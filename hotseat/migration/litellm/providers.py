"""LiteLLM's providers: which are somebody's own server, and where the others listen and find their key."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from hotseat.migration.command_lines.kinds import kind_by_name

HOME = frozenset({
    "ollama", "ollama_chat", "lm_studio", "llamafile", "hosted_vllm", "vllm", "xinference", "docker_model_runner",
    "lemonade", "infinity", "triton", "oobabooga",
})  # fmt: skip
"""Providers that are somebody's own server; without an address it is on this machine."""
COMPATIBLE = frozenset({
    "openai", "text-completion-openai", "openai_like", "custom_openai", "litellm_proxy", "huggingface", "custom",
})  # fmt: skip
"""Providers that are one's own server or not, depending on their address."""
OPENAI_AT_V1 = frozenset({
    "ollama", "ollama_chat", "lm_studio", "llamafile", "hosted_vllm", "vllm", "xinference", "lemonade",
})  # fmt: skip
"""Providers of ``HOME`` that speak OpenAI's protocol where they are far away too."""
NO_KEYS = frozenset({"", "none", "null", "empty", "dummy", "na", "n/a", "not-needed", "no-key", "sk-no-key-required"})
"""What people write where a server asks for no key."""

HOME_SUFFIXES = (".local", ".lan", ".internal", ".home.arpa", ".home", ".localdomain")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
"""Carrier-grade NAT, which private networks over the internet (Tailscale) use."""


@dataclass(frozen=True, slots=True)
class ProviderAddress:
    """Where a provider speaks OpenAI's protocol."""

    base_url: str
    variable: str
    """Environment variable in which LiteLLM looks for its key."""


CLOUDS = {
    "openai": ProviderAddress("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "text-completion-openai": ProviderAddress("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ProviderAddress("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": ProviderAddress("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": ProviderAddress("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ProviderAddress("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ProviderAddress("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": ProviderAddress("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together_ai": ProviderAddress("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": ProviderAddress("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "xai": ProviderAddress("https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": ProviderAddress("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "cerebras": ProviderAddress("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": ProviderAddress("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia_nim": ProviderAddress("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "sambanova": ProviderAddress("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "moonshot": ProviderAddress("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "zai": ProviderAddress("https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
    "dashscope": ProviderAddress("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    "volcengine": ProviderAddress("https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY"),
    "hyperbolic": ProviderAddress("https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    "nebius": ProviderAddress("https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY"),
    "novita": ProviderAddress("https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    "featherless_ai": ProviderAddress("https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY"),
    "meta_llama": ProviderAddress("https://api.llama.com/compat/v1", "LLAMA_API_KEY"),
    "github": ProviderAddress("https://models.inference.ai.azure.com", "GITHUB_API_KEY"),
    "veniceai": ProviderAddress("https://api.venice.ai/api/v1", "VENICE_AI_API_KEY"),
    "scaleway": ProviderAddress("https://api.scaleway.ai/v1", "SCW_SECRET_KEY"),
    "chutes": ProviderAddress("https://llm.chutes.ai/v1", "CHUTES_API_KEY"),
    "poe": ProviderAddress("https://api.poe.com/v1", "POE_API_KEY"),
    "nano-gpt": ProviderAddress("https://nano-gpt.com/api/v1", "NANOGPT_API_KEY"),
    "aihubmix": ProviderAddress("https://aihubmix.com/v1", "AIHUBMIX_API_KEY"),
}
"""Clouds by LiteLLM's word; sources: its ``constants.py`` and ``providers.json``, and the providers' own pages."""

_NO_ADDRESS = "an upstream is asked at one address, by OpenAI's or Anthropic's protocol and a key; this one is not"
UNSPOKEN = {
    "azure": "an Azure deployment is asked by its own address and version; where the resource has /openai/v1, enter it "
    "as base_url of an upstream",
    "bedrock": "requests to Bedrock are signed, which is not done here",
    "vertex_ai": "Vertex AI wants a token of Google's that is made anew every hour, which is not done here",
    "sagemaker": "requests to SageMaker are signed, which is not done here",
}
"""Providers that cannot be asked, by the beginning of LiteLLM's word."""

KINDS = {"chat": "chat", "completion": "completion", "embedding": "embedding", "responses": "chat", "rerank": "rerank"}


def kind_of(mode: object, bare: str) -> str | None:
    """What a model does: by LiteLLM's word, else by its name; None: what no kind of ours is."""
    if isinstance(mode, str) and mode:
        return KINDS.get(mode)
    return kind_by_name([bare])


def why_not(provider: str) -> str:
    """Why a provider cannot be an upstream."""
    return next((why for word, why in UNSPOKEN.items() if provider.startswith(word)), _NO_ADDRESS)


def is_home(provider: str, address: str | None) -> bool:
    """Tell whether it is a server of one's own."""
    if provider not in HOME | COMPATIBLE:
        return False
    if not address:
        return provider in HOME
    host = host_of(address)
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(HOME_SUFFIXES))
    return number.is_private or number.is_loopback or number.is_link_local or number in _SHARED


def host_of(address: str | None) -> str:
    """Return the host that an address names; empty: it names none."""
    try:
        return (urlsplit(address or "").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
