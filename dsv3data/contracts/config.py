"""Configuration: frozen dataclasses, read from TOML, overridden by `--set a.b=c`, hashed.

A config class is a frozen, keyword-only dataclass whose fields are int, float, bool, str, tuples
of these, optional values, or other such dataclasses. Nothing in a file can name code to import.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dsv3data.contracts.errors import BadConfig

Config = TypeVar("Config")
_Where = Callable[[str], str]  # the place at which the key of this name was given


def load_config(
    cls: type[Config], path: Path | None = None, overrides: Iterable[str] = ()
) -> Config:
    """Build `cls` from a TOML file and `a.b=value` overrides, later ones winning.

    A value in an override is TOML (`1e-4`, `true`, `"text"`, `[1, 2]`); a bare word is a string.

    Raises:
        BadConfig: unreadable TOML, an unknown key (with the nearest known one), a wrong type.
    """
    tree = _read_toml(path) if path is not None else {}
    places: dict[str, str] = {}  # of the keys that overrides name
    for override in overrides:
        places[_apply_override(tree, override)] = f"--set {override}"
    elsewhere = str(path) if path is not None else "--set"
    return typing.cast(
        Config, _build(cls, tree, prefix="", where=lambda name: places.get(name, elsewhere))
    )


def from_dict(cls: type[Config], tree: Mapping[str, Any], *, where: str = "config") -> Config:
    """Build the dataclass `cls` from nested mappings; every key must be a field of its class."""
    return typing.cast(Config, _build(cls, tree, prefix="", where=lambda _: where))


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a config dataclass; tuples become lists, as in TOML and JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def config_hash(config: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a config dataclass or of a plain mapping."""
    tree = config if isinstance(config, Mapping) else to_dict(config)
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Human lines such as `pack.context: 2048 → 4096` for every value that differs."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        name = f"{prefix}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, prefix=f"{name}.")
        elif before != after:
            lines.append(f"{name}: {before} → {after}")
    return lines


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadConfig(
            f"the config file cannot be read: {error.strerror}",
            where=str(path),
            effect="nothing was started",
            fix="check the path given to --config",
        ) from error
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(
            f"the config file is not TOML: {error}",
            where=str(path),
            effect="nothing was started",
            fix="write `key = value` lines under [section] headers; YAML and JSON are not read",
        ) from error


def _apply_override(tree: dict[str, Any], override: str) -> str:
    """Set the value in the tree; the key's full name."""
    name, separator, text = override.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not separator or not all(keys):
        raise BadConfig(
            f"an override must look like section.key=value, not {override!r}",
            where="--set",
            effect="nothing was started",
            fix="for example --set optimizer.lr=1e-3",
        )
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise BadConfig(
                f"{key!r} is a value, not a section",
                where=f"--set {override}",
                effect="nothing was started",
                fix="set the value itself, or another key",
            )
        node = child
    node[keys[-1]] = _parse_value(text.strip())
    return ".".join(keys)


def _parse_value(text: str) -> Any:
    try:
        tree = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return tree["value"] if len(tree) == 1 else text  # a line break could smuggle in another key


def _build(cls: Any, tree: Any, *, prefix: str, where: _Where) -> Any:
    if not isinstance(tree, Mapping):
        raise _wrong_type(prefix.rstrip("."), "a section", tree, where)
    hints = get_type_hints(cls)
    known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    for key in tree:
        if key not in known:
            raise _unknown_key(cls, key, prefix, where)
    values = {
        key: _convert(known[key], value, name=f"{prefix}{key}", where=where)
        for key, value in tree.items()
    }
    try:
        return cls(**values)
    except TypeError as error:  # a required field without a value
        raise BadConfig(
            f"{prefix.rstrip('.') or cls.__name__}: {error}",
            where=where(prefix.rstrip(".")),
            effect="nothing was started",
            fix="give the missing key in the file or with --set",
        ) from error


def _convert(hint: Any, value: Any, *, name: str, where: _Where) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, prefix=f"{name}.", where=where)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        choices = [choice for choice in get_args(hint) if choice is not type(None)]
        return _convert(choices[0], value, name=name, where=where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong_type(name, "a list", value, where)
        item_hint = get_args(hint)[0]
        return tuple(_convert(item_hint, item, name=name, where=where) for item in value)
    if origin is typing.Literal:
        if value not in get_args(hint):
            raise _wrong_type(name, "one of " + ", ".join(map(repr, get_args(hint))), value, where)
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise _wrong_type(name, f"of type {hint.__name__}", value, where)
    return value


def _wrong_type(name: str, expected: str, value: Any, where: _Where) -> BadConfig:
    return BadConfig(
        f"{name} must be {expected}, not {value!r}",
        where=where(name),
        effect="nothing was started",
        fix=f"change the value of {name}",
    )


def _unknown_key(cls: Any, key: str, prefix: str, where: _Where) -> BadConfig:
    known = [field.name for field in dataclasses.fields(cls)]
    names = {name.rpartition(".")[2]: name for name in _names(cls, prefix)}
    near = [names[key]] if key in names else []
    near += [prefix + name for name in difflib.get_close_matches(key, known, n=1, cutoff=0.5)]
    near += [names[name] for name in difflib.get_close_matches(key, names, n=1, cutoff=0.7)]
    hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(sorted(known))
    name = prefix + key
    return BadConfig(
        f"unknown key {name!r}", where=where(name), effect="nothing was started", fix=hint
    )


def _names(cls: Any, prefix: str) -> Iterator[str]:
    """Full names of a config class's values, those of its sections included."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _names(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
