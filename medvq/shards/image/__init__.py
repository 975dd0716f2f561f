"""One image: sniff its type, strip metadata, decode it strictly, fit it to a size, measure it."""
