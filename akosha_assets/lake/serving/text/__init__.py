"""Text search: analysis, query parsing, keyword index and snippets."""
