"""Random changes of training images: geometry with masks, colour, blur and noise; all keyed by seed and step."""
