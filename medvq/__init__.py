"""medvq: from folders of medical images to the paper's table."""

__version__ = "0.1.0"
