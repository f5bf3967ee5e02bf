"""The base class of all settings: an invalid value is one line, and variables that nothing reads are reported.

The settings are in `setting_groups/` and `akosha_api/settings.py`.
"""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from akosha_assets.lake.errors import InvalidSettings

PREFIX = "AKOSHA_"
MIB = 1024 * 1024
# Variables that commands and tests read, besides the fields of the classes of settings.
OTHERS = frozenset(
    (
        *("AKOSHA_URL", "AKOSHA_DAGSTER_PORT", "AKOSHA_CODE_PORT", "AKOSHA_DRAIN_SECONDS", "AKOSHA_API_SUPERVISOR"),
        *("AKOSHA_SHARED", "AKOSHA_SLOW_TESTS", "AKOSHA_TEST_NO_SKIPS", "AKOSHA_CHAOS_SEED"),
    )
)


class CheckedSettings(BaseSettings):
    """Settings from the environment whose errors name the variable, its value and what was expected."""

    def __init__(self, **values: Any):
        """Read the settings from the environment; `values` take precedence.

        Raises:
            InvalidSettings: a value is invalid.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            messages = [self._message(details) for details in error.errors(include_url=False)]
        else:
            return
        raise InvalidSettings("; ".join(messages))

    @classmethod
    def _message(cls, details: Mapping[str, Any]) -> str:
        expected = str(details["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        if not details["loc"]:
            return expected
        name = str(details["loc"][0])
        field = cls.model_fields.get(name)
        is_secret = field is not None and (not field.repr or field.annotation is SecretStr)
        value = "set to a secret" if is_secret else f"{str(details['input'])[:200]!r}"
        return f"{cls.variable(name)} is {value}; expected {expected}"

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of the field `name`."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def unread_variables(
    settings: Iterable[type[CheckedSettings]], environment: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    """Variables `AKOSHA_…` that none of `settings` reads, each with the most similar known name or None.

    Every process passes all classes, so a variable of another process is known and a misspelt one is reported by each.
    """
    known = {each.variable(name) for each in settings for name in each.model_fields} | OTHERS
    variables = os.environ if environment is None else environment
    unread = sorted(name for name in variables if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(get_close_matches(name, known, 1, 0.8)), None) for name in unread}
