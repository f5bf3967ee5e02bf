"""The generated passages of `docs/`: settings, columns, reason codes, commands. `python -m akosha_assets.reference`
rewrites them.

A passage stands between `<!-- generated: NAME -->` and `<!-- end -->`; a test compares it with what the code says.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

PASSAGE = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
DOCS = Path(__file__).parent.parent / "docs"


def settings_table(settings: type[BaseSettings]) -> str:
    """Name, default and description of every setting."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = ["| Variable | Default | What it does |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "" if field.default in ("", None) else f"`{field.default}`"
        bounds = ", ".join(_bound(one) for one in field.metadata if _bound(one))
        text = f"{field.description}{f' ({bounds})' if bounds else ''}"
        lines.append(f"| `{prefix}{name}`".upper() + f" | {default} | {text} |")
    return "\n".join(lines)


def columns_table(address: str) -> str:
    """Name, type and comment of every column of the table at `address`."""
    from akosha_assets.lake.schemas import TABLES

    lines = ["| Column | Type | Holds |", "|---|---|---|"]
    for field in TABLES[address].schema:
        comment = (field.metadata or {}).get(b"comment", b"").decode()
        lines.append(
            f"| `{field.name}` | {field.type}{' or null' if field.nullable else ''} | "
            f"{comment.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines)


def reasons_table() -> str:
    """Every reason an upload is quarantined for."""
    from akosha_assets.lake.errors import REASONS

    return "\n".join(["| Reason | Means |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in REASONS.items())])


def metrics_table(declared: dict[str, Any]) -> str:
    """Name, labels and meaning of every metric."""
    lines = ["| Metric | Labels | Says |", "|---|---|---|"]
    for one in declared.values():
        lines.append(f"| `{one.name}` | {', '.join(f'`{label}`' for label in one.labels)} | {one.says} |")
    return "\n".join(lines)


def passages() -> dict[str, Callable[[], str]]:
    """Every generated passage by its name."""
    from akosha_api import metrics as api_metrics
    from akosha_api.settings import ApiSettings
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.watch import metrics as lake_metrics

    made: dict[str, Callable[[], str]] = {
        "lake settings": lambda: settings_table(LakeSettings),
        "api settings": lambda: settings_table(ApiSettings),
        "reasons": reasons_table,
        "lake metrics": lambda: metrics_table(lake_metrics.METRICS),
        "api metrics": lambda: metrics_table(api_metrics.METRICS),
    }
    for address in TABLES:
        made[f"columns of {address}"] = lambda address=address: columns_table(address)  # type: ignore[misc]
    return made


def rewritten(text: str) -> str:
    """`text` with every generated passage as the code has it now.

    Raises:
        KeyError: a passage has a name that is not known here.
    """
    known = passages()
    return PASSAGE.sub(lambda match: f"{match[1]}{known[match['name']]()}\n{match[3]}", text)


def _bound(constraint: Any) -> str:
    for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if hasattr(constraint, name):
            return f"{words} {getattr(constraint, name):,}"
    return ""


def main() -> int:
    """Every generated passage in `docs/` is as the code has it."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if (now := rewritten(text)) != text:
            path.write_text(now)
            sys.stdout.write(f"rewrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
