"""Strict: an answer that breaks the schema its request names never reaches the client.

Rule: all of an answer, a streamed one too, is kept until it was checked; where it breaks the schema another one is
asked for, cooler each time, and in the end the client gets 422 with what was wrong, or the same as its stream's last
event. The header ``x-hotseat-validate`` says who wants that, else the API key, else the model, else the configuration.
Without a schema in the request nothing is checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from broker.answers.schema.check import (
    Contract,
    SchemaError,
    SchemaViolation,
    check,
    schema_of,
    temperature_for,
    violations_told,
    with_temperature,
)
from broker.answers.verdict import Shape
from broker.core.errors import BackendError, BadArgumentError
from broker.core.lease import ModelName
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.protocol.errors import MalformedError

VALIDATE_HEADER = b"x-hotseat-validate"


class BrokenTryError(BackendError):
    """This answer breaks the schema; the client got nothing of it."""

    code = "schema_violations"

    def __init__(self, violations: tuple[SchemaViolation, ...]) -> None:
        super().__init__("the answer breaks its schema")
        self.violations = violations


class ContractBrokenError(ClientFacingError):
    """Every answer did; no other route is asked."""


class Strict:
    """One request's schema, and its body as the next attempt sends it."""

    def __init__(self, shape: Shape, contract: Contract, body: bytes) -> None:
        self._shape = shape
        self._contract = contract
        self._fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        temperature = self._fields.get("temperature")
        self._asked = None if temperature is None else msgspec.json.decode(temperature)
        self._attempt = 1
        self.body = body

    def check(self, body: bytes, *, streamed: bool) -> None:
        """Look at an answer, all of which is there.

        Raises:
            BrokenTryError: It breaks the schema.
        """
        if violations := check(self._contract, self._shape, body, streamed=streamed):
            raise BrokenTryError(violations)

    def again(self, broken: BrokenTryError) -> None:
        """Prepare the next attempt.

        Raises:
            ContractBrokenError: There is none.
        """
        temperature = temperature_for(self._asked, self._attempt + 1)
        if temperature is None:
            message = f"the answer broke its schema in each of {self._attempt} attempts"
            more = {"attempts": self._attempt, "violations": violations_told(broken.violations)}
            raise ContractBrokenError(ClientError(code=broken.code, message=message, more=more))
        self._attempt += 1
        self.body = with_temperature(self._fields, temperature)


class Validated(StrEnum):
    """What is told of an answer, in ``x-hotseat-validate``."""

    STRICT = "strict"
    """It was checked."""
    UNCHECKED = "unchecked"
    """It should have been, by configuration, and its schema cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """Whose answers are checked without being asked for that."""

    everybody: bool = False
    keys: Mapping[str, bool] = field(default_factory=dict)
    """By the API key's name."""
    models: Mapping[ModelName, bool] = field(default_factory=dict)

    def of(self, key: str, model: ModelName) -> bool:
        """The key's word, else the model's, else everybody's."""
        word = self.keys.get(key)
        return self.models.get(model, self.everybody) if word is None else word

    @property
    def is_off(self) -> bool:
        """Is nobody's checked?"""
        return not (self.everybody or any(self.keys.values()) or any(self.models.values()))


class Checks:
    """What is checked of one request's answer, whichever model gives it."""

    def __init__(self, key: str, strictness: Strictness, strict: Strict | None, *, asked: bool) -> None:
        self._key = key
        self._strictness = strictness
        self._strict = strict
        self._asked = asked

    def of(self, model: ModelName) -> tuple[Strict | None, Validated | None]:
        """For the answer of a model: what it must hold, and what is told of that."""
        if not self._asked and not self._strictness.of(self._key, model):
            return None, None
        return self._strict, Validated.UNCHECKED if self._strict is None else Validated.STRICT


def checks_of(
    headers: Mapping[bytes, bytes], shape: Shape, body: bytes, key: str, strictness: Strictness
) -> Checks | None:
    """What is to be checked of a request's answer; None: nothing.

    The header's word goes before all others. What nobody asked for does not stop a request whose schema cannot be used.

    Raises:
        BadArgumentError: The header's word is unknown, or it says strict and the schema cannot be used.
        MalformedError: The body is no JSON object.
    """
    word = headers.get(VALIDATE_HEADER, b"").strip().lower()
    if word not in {b"", b"strict", b"off"}:
        raise BadArgumentError("x-hotseat-validate must be strict or off")
    if word == b"off" or (not word and strictness.is_off) or body[:2] == b"--" or shape is Shape.WHOLE:
        return None
    try:
        schema = schema_of(shape, msgspec.json.decode(body, type=dict))
        strict = None if schema is None else Strict(shape, Contract(schema), body)
    except SchemaError as error:
        if word:
            raise BadArgumentError(f"the schema cannot be used: {error}") from None
        return Checks(key, strictness, None, asked=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"the body cannot be read: {error}") from None
    return None if strict is None else Checks(key, strictness, strict, asked=bool(word))
