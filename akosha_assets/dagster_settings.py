"""The settings for code that Dagster's own commands run: a wrong value ends the command with one line."""

import click

from akosha_assets.lake.errors import InvalidSettings
from akosha_assets.lake.settings import LakeSettings


def read_settings() -> LakeSettings:
    """The settings of the environment.

    Raises:
        ClickException: a value is wrong. A `dagster` command prints its message as one line and exits with 1; any other
            exception would be a traceback.
    """
    try:
        return LakeSettings()
    except InvalidSettings as error:
        raise click.ClickException(str(error)) from None
