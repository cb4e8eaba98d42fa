"""``x-hotseat-validate: strict``: an answer that breaks the schema its request names never reaches the client.

Rule: the whole answer is kept until it was checked; where it breaks the schema another one is asked for, cooler each
time, and in the end the client gets 422 with what was wrong. Without a schema in the request nothing is checked.
"""

from collections.abc import Mapping

import msgspec

from broker.answers.strict import (
    Contract,
    SchemaError,
    Violation,
    check,
    schema_of,
    temperature_for,
    told,
    with_temperature,
)
from broker.answers.verdict import Shape
from broker.core.errors import BackendError, BadArgumentError
from broker.gateway.identity import UnreadableError
from broker.gateway.troubles import Trouble, TroubleError

VALIDATE_HEADER = b"x-hotseat-validate"


class BrokenTryError(BackendError):
    """This answer breaks the schema; the client got nothing of it."""

    code = "schema_violations"

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("the answer breaks its schema")
        self.violations = violations


class ContractBrokenError(TroubleError):
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

    def check(self, body: bytes) -> None:
        """Look at a whole answer.

        Raises:
            BrokenTryError: It breaks the schema.
        """
        if violations := check(self._contract, self._shape, body):
            raise BrokenTryError(violations)

    def again(self, broken: BrokenTryError) -> None:
        """Prepare the next attempt.

        Raises:
            ContractBrokenError: There is none.
        """
        temperature = temperature_for(self._asked, self._attempt + 1)
        if temperature is None:
            message = f"the answer broke its schema in each of {self._attempt} attempts"
            more = {"attempts": self._attempt, "violations": told(broken.violations)}
            raise ContractBrokenError(Trouble(status=422, code=broken.code, message=message, more=more))
        self._attempt += 1
        self.body = with_temperature(self._fields, temperature)


def strict_of(headers: Mapping[bytes, bytes], shape: Shape, body: bytes, *, stream: bool) -> Strict | None:
    """What a request wants to be checked; None: nothing.

    Raises:
        BadArgumentError: The header's word is unknown, the schema cannot be used, or a stream is asked for.
        UnreadableError: The body is no JSON object.
    """
    word = headers.get(VALIDATE_HEADER)
    if word is None:
        return None
    if word.strip().lower() != b"strict":
        raise BadArgumentError("x-hotseat-validate must be strict")
    if body[:2] == b"--" or shape is Shape.WHOLE:
        return None
    try:
        schema = schema_of(shape, msgspec.json.decode(body, type=dict))
        if schema is None:
            return None
        if stream:
            raise BadArgumentError("x-hotseat-validate: strict checks whole answers; ask without stream")
        return Strict(shape, Contract(schema), body)
    except SchemaError as error:
        raise BadArgumentError(f"the schema cannot be used: {error}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError(f"the body cannot be read: {error}") from None
