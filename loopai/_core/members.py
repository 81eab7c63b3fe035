"""What classes send according to their declarations: members, aliases, user serialisers. Values are not examined."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Optional, get_args

from pydantic import VERSION, BaseModel, TypeAdapter
from typing_extensions import get_type_hints, is_typeddict

NAMED_TUPLES_ARE_TYPED = tuple(map(int, VERSION.split(".")[:2])) >= (2, 14)
"""Before pydantic 2.14 the serialisers of a named tuple's members are not used."""


class DeclaredMember(NamedTuple):
    """One member of a class: its name in Python and in JSON, and whether a user's serialiser writes it.

    `for_json` says that one of these serialisers writes JSON only.
    """

    name: str
    alias: str
    custom: bool
    for_json: bool = False
    computed: bool = False


class Members(NamedTuple):
    """What a class sends: `simple` if each field is written as it is, `custom` if a serialiser writes the whole."""

    each: tuple[DeclaredMember, ...]
    simple: bool
    custom: bool
    for_json: bool


def is_typed(kind: type) -> bool:
    return issubclass(kind, BaseModel) or (is_dataclass(kind) and hasattr(kind, "__pydantic_serializer__"))


@lru_cache(maxsize=1024)
def members_of(kind: Hashable) -> Members:
    decorated: Any = getattr(kind, "__pydantic_decorators__", None)
    known: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
    written: dict[str, list[str]] = {}
    for each in decorated.field_serializers.values():
        for name in each.info.fields:
            written.setdefault(name, []).append(each.info.when_used)

    def member(
        name: str, alias: str, annotation: Any, metadata: Sequence[Any], *, computed: bool = False
    ) -> DeclaredMember:
        used = [*written.get(name, ()), *written.get("*", ()), *serializers_in(annotation, metadata)]
        return DeclaredMember(name, alias, bool(used), _for_json(used), computed)

    found = [
        member(name, field.serialization_alias or field.alias or name, field.annotation, field.metadata)
        for name, field in known.items()
    ]
    found += [
        member(name, each.info.alias or name, each.info.return_type, (), computed=True)
        for name, each in decorated.computed_fields.items()
    ]
    aliases = {each.alias for each in found}
    whole = [each.info.when_used for each in decorated.model_serializers.values()]
    simple = len(aliases) == len(found) and not whole and not any(each.custom or each.computed for each in found)
    return Members(
        tuple(found), simple, bool(whole), _for_json([*whole, *(u for each in written.values() for u in each)])
    )


def _for_json(used: Iterable[str]) -> bool:
    return any(each.startswith("json") for each in used)


def serializers_in(annotation: Any, metadata: Sequence[Any], within: tuple[Any, ...] = ()) -> list[str]:
    """Return when the user's serialisers for the type, or for parts of it, are used."""
    found: list[str] = [
        each.when_used
        for each in (*metadata, *_metadata_of(annotation))
        if type(each).__name__ in {"PlainSerializer", "WrapSerializer"}
    ]
    if not any(annotation is outer for outer in within):  # otherwise the type contains itself
        for part in _parts_of(annotation):
            found += serializers_in(part, (), (*within, annotation))
    return found


def _parts_of(annotation: Any) -> Iterable[Any]:
    """Return the parts of a type: arguments, the target of an alias or `NewType`, members by name."""
    # Only a NewType of older Pythons has its own `__supertype__`.
    stands_for = getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)
    if stands_for is not None:
        return (stands_for,)
    is_named_tuple = isinstance(annotation, type) and hasattr(annotation, "_fields")
    if is_typeddict(annotation) or (is_named_tuple and NAMED_TUPLES_ARE_TYPED):
        try:
            return get_type_hints(annotation, include_extras=True).values()
        except NameError:  # a type of a function, whose names are not to be found any more
            return ()
    return get_args(annotation)


class Described(NamedTuple):
    """A standard dataclass with pydantic serialisers or aliases, and its members that have neither."""

    serializer: Any
    plain: tuple[str, ...]


@lru_cache(maxsize=1024)
def described_by(kind: Any) -> Optional[Described]:
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:  # a type of a function, whose names are not to be found any more
        return None
    told = {
        name
        for name, hint in hints.items()
        if serializers_in(hint, ()) or any(type(each).__name__ == "FieldInfo" for each in _metadata_of(hint))
    }
    if not told:
        return None
    return Described(TypeAdapter(kind).serializer, tuple(each.name for each in fields(kind) if each.name not in told))


def _metadata_of(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())
