"""Real sets of the shipped recipes: their folders, and the number of images in each split."""

SETS = {
    "pbc": ("pbc/PBC_dataset_normal_DIB", {"train": 1400, "val": 200}),
    "segmentation-wbc": ("segmentation_wbc_dataset1", {"train": 300}),
    "isic2017": ("isic2017_256", {"train": 1999, "val": 150}),
    "bccd": ("bccd", {"train": 194, "val": 86, "test": 68}),
    "lc25000-lung": ("lc25000_lung_224", {"train": 1200}),
    "brain-tumor-mri": ("brain_tumor_mri_224", {"train": 1000}),
    "leukemia": ("leukemia_all_224", {"train": 160}),
    "pbc28": ("pbc28/pbc28.npz", {"train": 11959, "val": 1712}),
}
