"""Generates the passages of `docs/` that follow from the code: settings, columns, reason codes, metrics, commands.

A passage is between `<!-- generated: NAME -->` and `<!-- end -->`; `python -m akosha_assets.reference` rewrites all of
them, and a test compares them with the code.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic_settings import BaseSettings

PASSAGE = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
DOCS = Path(__file__).parent.parent / "docs"


def settings_table(settings: type[BaseSettings]) -> str:
    """Name, default and description of every setting, as a Markdown table."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = ["| Variable | Default | What it does |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "" if field.default in ("", None) else f"`{field.default}`"
        bounds = ", ".join(filter(None, map(_bound, field.metadata)))
        text = f"{field.description}{f' ({bounds})' if bounds else ''}"
        lines.append(f"| `{prefix}{name}`".upper() + f" | {default} | {text} |")
    return "\n".join(lines)


def columns_table(address: str) -> str:
    """Name, type and comment of every column of the table at `address`, as a Markdown table."""
    from akosha_assets.lake.schemas import TABLES

    lines = ["| Column | Type | Holds |", "|---|---|---|"]
    for field in TABLES[address].schema:
        comment = (field.metadata or {}).get(b"comment", b"").decode()
        lines.append(f"| `{field.name}` | {field.type}{' or null' if field.nullable else ''} | {_cell(comment)} |")
    return "\n".join(lines)


def reasons_table() -> str:
    """Every reason for which uploads are quarantined, as a Markdown table."""
    from akosha_assets.lake.reasons import REASONS

    return "\n".join(["| Reason | Means |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in REASONS.items())])


def metrics_table(metrics: dict[str, Any]) -> str:
    """Name, labels and meaning of every metric, as a Markdown table."""
    lines = ["| Metric | Labels | Meaning |", "|---|---|---|"]
    for metric in metrics.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {labels} | {metric.help} |")
    return "\n".join(lines)


def command_sections() -> str:
    """A section for every command: its help with the exit codes, its arguments and its options."""
    import typer

    from akosha_assets.cli.main import app

    return "\n\n".join(_sections(typer.main.get_command(app), "akosha"))


def _sections(command: Any, name: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for child_name, child in command.commands.items():
            yield from _sections(child, f"{name} {child_name}")
        return
    # The help is the docstring, which has line breaks inside of paragraphs.
    paragraphs = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help).split("\n\n")]
    types = get_type_hints(command.callback)
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    words = [name, *map(_argument_name, arguments), *(["[OPTIONS]"] if options else [])]
    lines = [f"## `{name}`", "", f"`{' '.join(words)}`", "", "\n\n".join(paragraphs)]
    if command.params:
        lines += ["", "| Argument or option | Default | What it does |", "|---|---|---|"]
        lines += [_parameter_row(parameter, types[parameter.name]) for parameter in (*arguments, *options)]
    yield "\n".join(lines)


def _argument_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _parameter_row(parameter: Any, annotation: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    is_flag = not is_argument and parameter.is_flag
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if is_flag else f" {_value_name(annotation)}"
    name = _argument_name(parameter) if is_argument else f"{flags}{value}"
    default = parameter.default
    is_unset = is_flag or default in ("", None)
    bounds = ", ".join(
        f"{words} {bound:,}"
        for words, bound in (("at least", parameter.min), ("at most", parameter.max))
        if bound is not None
    )
    text = _cell(parameter.help or "") + (f" ({bounds})" if bounds else "")
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return f"| `{_cell(name)}` | {'' if is_unset else f'`{default}`'} | {text}{variable} |"


def _value_name(annotation: Any) -> str:
    """The placeholder for a value of this type: its choices, or the name of the type."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(annotation)
    # The X of X | None and of list[X].
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if inner:
        return _value_name(inner[0])
    return {int: "INTEGER", float: "NUMBER", Path: "PATH", datetime: "YYYY-MM-DD"}.get(annotation, "TEXT")


def _cell(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def passages() -> dict[str, Callable[[], str]]:
    """The function that generates each passage, by its name."""
    from akosha_api import metrics as api_metrics
    from akosha_api.settings import ApiSettings
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.watch import metrics as lake_metrics

    generators: dict[str, Callable[[], str]] = {
        "lake settings": lambda: settings_table(LakeSettings),
        "api settings": lambda: settings_table(ApiSettings),
        "reasons": reasons_table,
        "lake metrics": lambda: metrics_table(lake_metrics.METRICS),
        "api metrics": lambda: metrics_table(api_metrics.METRICS),
        "commands": command_sections,
    }
    for address in TABLES:
        generators[f"columns of {address}"] = lambda address=address: columns_table(address)  # type: ignore[misc]
    return generators


def regenerate(text: str) -> str:
    """`text` with every passage generated again.

    Raises:
        KeyError: no generator has the name of a passage.
    """
    generators = passages()
    return PASSAGE.sub(lambda match: f"{match[1]}{generators[match['name']]()}\n{match[3]}", text)


def _bound(constraint: Any) -> str:
    for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if hasattr(constraint, name):
            return f"{words} {getattr(constraint, name):,}"
    return ""


def main() -> int:
    """Regenerate every passage in `docs/`."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if (regenerated := regenerate(text)) != text:
            path.write_text(regenerated)
            sys.stdout.write(f"rewrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
