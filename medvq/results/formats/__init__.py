"""Output formats of tables, one file each."""
