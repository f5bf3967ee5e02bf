"""Keeping the tables cheap and safe: compaction, vacuum, backup, the restore drill."""
