"""The Delta log: versions, commit times and data files of a table."""
