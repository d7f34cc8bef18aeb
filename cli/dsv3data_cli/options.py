"""Options that several commands share, and how they become configuration."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from dsv3data_cli.cluster import Cluster
from dsv3data_cli.output import Output

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class _PathOrUrl(click.Path):
    """A path of this machine, or a URL as it is (a path would lose one of its slashes)."""

    name = "path or URL"

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        text = os.fspath(value)
        return text if "://" in text else super().convert(value, param, ctx)


PATH_OR_URL = _PathOrUrl(path_type=Path)


def numbers(kind: type[int] | type[float]) -> Callable[..., tuple[float, ...] | None]:
    """A callback for `4096` or `4096,32768,131072`; None where the option is not given."""

    def parse(
        context: click.Context, option: click.Parameter, value: str | None
    ) -> tuple[float, ...] | None:
        try:
            return None if value is None else tuple(kind(part) for part in value.split(","))
        except ValueError:
            problem = f"{value!r} is not a number, or numbers with commas"
            raise click.BadParameter(problem, ctx=context, param=option) from None

    return parse


class InOrder(click.Group):
    """Lists commands in the order in which the work is done."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


def output_options(function: Function) -> Function:
    """--json and --quiet, passed on as one `Output`."""

    @functools.wraps(function)
    def wrapped(*args: Any, json_mode: bool, quiet: bool, **kwargs: Any) -> Any:
        output = Output(json_mode=json_mode, quiet=quiet)
        try:
            result = function(*args, output=output, **kwargs)
        except BaseException:
            output.close(finished=False)
            raise
        output.close()
        return result

    decorated: Any = wrapped
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="No progress, no notes."),
        click.option("--json", "json_mode", is_flag=True, help="Result as one JSON object."),
    ):
        decorated = option(decorated)
    return cast(Function, decorated)


def config_options(function: Function) -> Function:
    """--config and --set, as `config_file` and `overrides`."""
    for option in (
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set one configuration key; wins over everything else.",
        ),
        click.option("--config", "config_file", type=PATH, help="Configuration in TOML."),
    ):
        function = option(function)
    return function


def writing_options(function: Function) -> Function:
    """--out, --fresh and --dry-run."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing."),
        click.option("--fresh", is_flag=True, help="Move old output aside and start anew."),
        click.option("--out", type=PATH, required=True, help="Output folder."),
    ):
        function = option(function)
    return function


def workers_option(function: Function) -> Function:
    """--workers; never reaches a byte of the output."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=lambda: len(os.sched_getaffinity(0)),
        help="Processes; the output is the same for any number.  [default: all cores]",
    )(function)


def executor_options(function: Function) -> Function:
    """--executor, --tasks, --submit and --wait, passed on as one `Cluster`, or None for local."""

    @functools.wraps(function)
    def wrapped(
        *args: Any,
        executor: str,
        tasks: int | None,
        submit: tuple[str, ...],
        wait: bool,
        **kwargs: Any,
    ) -> Any:
        cluster = None
        if executor == "local":
            if tasks is not None or submit or wait:
                raise click.UsageError(
                    "--tasks, --submit and --wait are for --executor slurm and ray;"
                    " one machine is divided by --workers"
                )
        elif tasks is None:
            raise click.UsageError(f"--executor {executor} needs --tasks, the number of its tasks")
        else:
            source = click.get_current_context().get_parameter_source("workers")
            given = source is not None and source.name != "DEFAULT"
            cluster = Cluster(
                executor="ray" if executor == "ray" else "slurm",
                tasks=tasks,
                at_once=kwargs["workers"] if given else None,
                options=_pairs(submit),
                wait=wait,
            )
        return function(*args, cluster=cluster, **kwargs)

    decorated: Any = wrapped
    for option in (
        click.option("--wait", is_flag=True, help="Stay until the jobs of Slurm have ended."),
        click.option(
            "--submit",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of sbatch, as time=12:00:00, or of Ray tasks, as memory=4e9.",
        ),
        click.option(
            "--tasks",
            type=click.IntRange(min=1),
            help="Tasks of slurm or ray, at most --workers (if given) at a time.",
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "slurm", "ray"]),
            default="local",
            show_default=True,
            help="Who runs the work units; the output is the same.",
        ),
    ):
        decorated = option(decorated)
    return cast(Function, decorated)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.UsageError(f"--submit takes KEY=VALUE, not {text!r}")
        pairs[name] = value
    return pairs


def memory_option(function: Function) -> Function:
    """--memory as bytes; never reaches a byte of the output."""
    return click.option(
        "--memory",
        "memory_bytes",
        callback=_size,
        default="4G",
        show_default=True,
        metavar="SIZE",
        help="Working memory, e.g. 512M or 8G; more is spilled to disk.",
    )(function)


def _size(context: click.Context, option: click.Parameter, value: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    text = value.strip().upper().removesuffix("IB").removesuffix("B")
    factor = units.get(text[-1:], 1)
    try:
        size = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        size = 0.0
    if not 1 <= size < 1 << 60:
        problem = f"{value!r} is no size; write for example 512M or 8G"
        raise click.BadParameter(problem, ctx=context, param=option)
    return int(size)


def reading_options(function: Function) -> Function:
    """How records become documents: fields of `ReadOptions`."""
    for option in reversed(
        (
            click.option("--text-key", help="Field that holds the text.  [default: text]"),
            click.option("--id-key", help="Field that holds a unique id.  [default: none]"),
            click.option("--domain-key", help="Field that holds the domain.  [default: domain]"),
            click.option(
                "--domain",
                "domains",
                multiple=True,
                metavar="NAME=GLOB",
                help="Domain of files that match; first match wins.",
            ),
            click.option(
                "--text-files",
                multiple=True,
                metavar="GLOB",
                help="Files read whole as one document.  [default: *.txt, also .gz, .zst]",
            ),
            click.option(
                "--on-bad-utf8",
                type=click.Choice(["reject", "replace"]),
                help="Documents that are not valid Unicode.  [default: reject]",
            ),
            click.option(
                "--keep-prefix/--no-keep-prefix",
                default=None,
                help="Keep the documents before the damage in a truncated .gz or .zst.",
            ),
        )
    ):
        function = option(function)
    return function


READING = (
    "text_key",
    "id_key",
    "domain_key",
    "domains",
    "text_files",
    "on_bad_utf8",
    "keep_prefix",
)


def as_overrides(values: dict[str, Any], *, prefix: str = "") -> list[str]:
    """Options that were given, as `--set` strings; the others leave the config alone."""
    return [
        f"{prefix}{name}={_toml(value)}"
        for name, value in values.items()
        if value is not None and value != ()
    ]


def take(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Remove some options from the parsed ones and return them."""
    return {name: values.pop(name) for name in names}


def _toml(value: Any) -> str:
    """A TOML value; strings, numbers, booleans and lists are written as in JSON."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
