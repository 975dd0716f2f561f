"""Which sample goes where: splits, subsets, and the order of every epoch. Pure functions."""
