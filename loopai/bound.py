"""A task with types: what its callables check of inputs and make of outputs. The calls are the clients'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from . import models
from .exceptions import ExecutionException, ValidationException

if TYPE_CHECKING:
    from typing_extensions import TypeForm

In = TypeVar("In")
Out = TypeVar("Out")


class TypedTask(Generic[In, Out]):
    """A task with types: checks what goes in, and makes what comes out into `output`."""

    def __init__(self, task_id: str, given: TypeForm[In], made: TypeForm[Out]) -> None:
        self.task_id = task_id
        self._given: TypeAdapter[In] = TypeAdapter(given)
        self._made: TypeAdapter[Out] = TypeAdapter(made)

    def _input(self, value: Any) -> Any:
        try:
            return self._given.dump_python(self._given.validate_python(value), mode="json", by_alias=True)
        except ValidationError as error:
            errors: dict[str, list[str]] = {}
            for problem in error.errors(include_url=False, include_input=False):
                place = ".".join(str(part) for part in problem["loc"]) or "input"
                errors.setdefault(place, []).append(problem["msg"])
            raise ValidationException("the input is not what the task was bound to", errors=errors) from None

    def _output(self, result: models.ExecutionResult) -> Out:
        try:
            # As JSON: a strict model takes a date from its text there, and nowhere else.
            return self._made.validate_json(to_json(result.output))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise ExecutionException(
                f"the output is not what the task was bound to: {place + ': ' if place else ''}{problem['msg']}",
                execution_id=None if result.execution_id is None else str(result.execution_id),
                result=result,
            ) from None
