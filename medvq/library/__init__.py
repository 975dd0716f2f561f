"""The functions that `import medvq` shows: thin, documented wrappers around the rooms below."""
