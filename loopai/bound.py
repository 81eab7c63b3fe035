"""Tasks with types: check inputs and convert outputs. The clients make the calls."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, to_json
from typing_extensions import Self

from . import models
from ._core.encoding import InputType
from .exceptions import ExecutionException, ValidationException

if TYPE_CHECKING:
    from typing_extensions import TypeForm

In = TypeVar("In")
Out = TypeVar("Out")


def function_name(task: str) -> str:
    """Return a name for a function that runs `task`: letters, digits and underscores, as agents' tools need it."""
    name = re.sub(r"\W+", "_", task, flags=re.ASCII).strip("_").lower() or "task"
    return f"task_{name}" if name[0].isdigit() else name


class TypedTask(ABC, Generic[In, Out]):
    """A task with types: checks the input, and converts the output to its type."""

    def __init__(self, task_id: str, given: TypeForm[In], made: TypeForm[Out], name: str) -> None:
        self.task_id = task_id
        self._given: InputType[In] = InputType(given)
        self._made: TypeAdapter[Out] = TypeAdapter(made)
        # With these attributes, agents and other code that inspects functions can use it as a tool.
        self.__name__ = self.__qualname__ = function_name(name)
        self.__doc__ = f"Run the task {name!r} on an input, and return its output."
        value = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=given)
        self.__signature__ = inspect.Signature([value], return_annotation=made)
        self.__annotations__ = {"value": given, "return": made}

    def __get__(self, instance: Any, owner: Any = None) -> Self:
        """Return the task itself when it is a class attribute: it takes no `self`.

        This also makes it a routine for `inspect.isroutine`, which FastMCP requires.
        """
        return self

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Describe the task to pydantic as the call of its function, which is how FastMCP calls tools."""
        return handler.generate_schema(self.function)

    @property
    @abstractmethod
    def function(self) -> Callable[..., Any]:
        """The task as a plain function, for code that accepts nothing else."""

    def _described(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with this task's name, docstring, signature and annotations."""
        described: Any = function
        for name in ("__name__", "__qualname__", "__doc__", "__signature__", "__annotations__"):
            setattr(described, name, getattr(self, name))
        described.__module__ = type(self).__module__
        return function

    def _input(self, value: Any) -> Any:
        try:
            return self._given.form(value, "input")
        except ValidationError as error:
            errors: dict[str, list[str]] = {}
            for problem in error.errors(include_url=False, include_input=False):
                place = ".".join(str(part) for part in problem["loc"]) or "input"
                errors.setdefault(place, []).append(problem["msg"])
            raise ValidationException("the input is not what the task was bound to", errors=errors) from None

    def _output(self, result: models.ExecutionResult) -> Out:
        try:
            # As JSON, because strict models accept dates as texts only there.
            return self._made.validate_json(to_json(result.output))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise ExecutionException(
                f"the output is not what the task was bound to: {place + ': ' if place else ''}{problem['msg']}",
                execution_id=None if result.execution_id is None else str(result.execution_id),
                result=result,
            ) from None
