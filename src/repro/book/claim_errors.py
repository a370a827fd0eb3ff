"""What pydantic finds wrong with a file, said in one line: place, field, value, and what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from repro.book.errors import nearest

__all__ = ["one_line", "short"]


def short(value: object) -> str:
    """A value as it would be typed, cut to what fits in a line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _where(
    location: tuple[int | str, ...], content: Any, root: type[BaseModel], inner: Mapping[str, type[BaseModel]]
) -> tuple[str, str, type[BaseModel]]:
    """The place of an error in words, the field with its path, and the model it belongs to."""
    fields: list[str] = []
    place, here = "", content
    model = root
    for step in location:
        parent, here = here, _entry(here, step)
        if isinstance(step, int) and fields in (["claims"], ["tests"]):
            label, named = ("claim", "id") if fields == ["claims"] else ("test", "name")
            name = here.get(named) if isinstance(here, dict) else None
            place += f"{label} {name if name is not None else f'number {step + 1}'}: "
            fields = []
        elif isinstance(parent, dict) and isinstance(step, str) and step != "[key]":
            if not fields and step in inner:
                model = inner[step]
            fields.append(step)
        elif isinstance(parent, list) and isinstance(step, int):
            fields.append(f"[{step}]")
        # what remains are pydantic's names for union branches and keys: not a part of the file
    return place, ".".join(fields).replace(".[", "["), model


def _entry(node: Any, step: int | str) -> Any:
    try:
        return node[step]
    except (KeyError, IndexError, TypeError):
        return node if not isinstance(node, dict) else None


_ACCEPTED = {
    "missing": "a value, and there is none",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "float_type": "a number (in YAML write 1.0e-6, not 1e-6)",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "at least one entry",
}


def one_line(
    error: ValidationError, content: Any, root: type[BaseModel], inner: Mapping[str, type[BaseModel]]
) -> str:
    """The first thing that is wrong, in one line, and how many more there are.

    ``content`` is what was validated; ``root`` its model, ``inner`` the models by the key that holds them.
    """
    errors = error.errors(include_url=False)
    # an unknown key explains best why another one is missing
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place, field, model = _where(first["loc"], content, root, inner)
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(first["loc"][-1])
        text = f"unknown key {name!r}; {nearest(name, model.model_fields)}"
    elif kind == "value_error":
        text = str(context.get("error", first["msg"]))
    elif kind == "missing":
        text = f"{field} is missing; accepted: {_missing(field, model)}"
    else:
        accepted = _ACCEPTED.get(kind) or str(context.get("expected") or first["msg"])
        if kind == "string_pattern_mismatch":
            accepted = f"text like {context['pattern']}"
        elif kind in ("greater_than", "greater_than_equal"):
            relation = "above" if kind == "greater_than" else "of at least"
            accepted = f"a number {relation} {next(iter(context.values()))}"
        text = f"{field} is {short(value)}; accepted: {accepted}"
    more = len({_where(e["loc"], content, root, inner)[:2] for e in errors}) - 1
    return place + text + (f" (and {more} more)" if more else "")


def _missing(field: str, model: type[BaseModel]) -> str:
    described = model.model_fields.get(field.rsplit(".", 1)[-1])
    annotation = getattr(described, "annotation", None)
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choices)
    return "a value"
