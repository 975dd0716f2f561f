"""Published sizes of the labelled subsets of Raabin-WBC."""

PUBLISHED = {
    100: [(176, 17), (618, 61), (2015, 201), (466, 46), (5172, 517)],
    50: [(88, 8), (309, 30), (1007, 100), (233, 23), (2586, 258)],
    10: [(17, 1), (61, 6), (201, 20), (46, 4), (517, 51)],
    1: [(1, 0), (6, 0), (20, 2), (4, 0), (51, 5)],
}
"""Images and masks of basophil, eosinophil, lymphocyte, monocyte, neutrophil in WBC_100, 50, 10 and 1."""
