"""Scheduled maintenance of tables, backups and the inbox."""
