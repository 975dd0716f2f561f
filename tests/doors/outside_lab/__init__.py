"""What a lab adds to medvq from outside: one of everything."""
