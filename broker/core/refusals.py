"""What somebody is told for whom a model cannot be there: the same words wherever it turns out."""

from broker.core.errors import (
    LoadFailedError,
    ModelNotWarmError,
    ModelOffError,
    ModelQuarantinedError,
    ModelUnavailableError,
)
from broker.core.slot import Failing

REFUSAL_PAUSE_S = 30
"""When to ask again where nobody knows better, seconds."""
LASTING = frozenset({Failing.PERMANENT, Failing.UNSOUND})
UNSERVED = "no worker's catalogue has it"
"""Stands in the reason of a ticket that was rejected, after ``no_worker``."""
NOT_WARM = ModelNotWarmError.code
OFF, LOAD_FAILED, QUARANTINED = ModelOffError.code, LoadFailedError.code, ModelQuarantinedError.code


def out_of_service(model: str, why: str, retry_s: int = REFUSAL_PAUSE_S) -> ModelUnavailableError:
    """Refuse because an operator took the model out of service."""
    return ModelOffError(f"{model} is out of service: {why}", retry_s=retry_s)


def given_up(model: str, kind: Failing | None, error: str, retry_s: int = REFUSAL_PAUSE_S) -> ModelUnavailableError:
    """Refuse because the model failed: for good, as it is configured, or too often."""
    if kind in LASTING:
        return cannot_be_loaded(model, error, retry_s)
    return failed_too_often(model, error, retry_s)


def cannot_be_loaded(model: str, error: str, retry_s: int = REFUSAL_PAUSE_S) -> ModelUnavailableError:
    """Refuse because the model cannot be loaded as its entry, program and files are."""
    return LoadFailedError(f"{model} cannot be loaded: {error}", retry_s=retry_s)


def failed_too_often(model: str, error: str, retry_s: int = REFUSAL_PAUSE_S) -> ModelUnavailableError:
    """Refuse because the model failed so often that it is left alone for a while."""
    return ModelQuarantinedError(f"{model} failed too often, the last time: {error}", retry_s=retry_s)


def not_warm(model: str, retry_s: int = REFUSAL_PAUSE_S) -> ModelUnavailableError:
    """Refuse because the model is not loaded, or not any more, and was to be used only while it is."""
    return ModelNotWarmError(f"{model} is not loaded, and is to be used only while it is", retry_s=retry_s)


def of_reason(model: str, reason: str, retry_s: int) -> ModelUnavailableError | None:
    """Refuse for the same reason for which a ticket was rejected; None where that was another one."""
    _, _, told = reason.partition("rejected: ")
    code, _, detail = told.partition(": ")
    if code == NOT_WARM:
        return not_warm(model, retry_s)
    makers = {OFF: out_of_service, LOAD_FAILED: cannot_be_loaded, QUARANTINED: failed_too_often}
    return makers[code](model, detail, retry_s) if code in makers else None
