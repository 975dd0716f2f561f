"""Read a folder or a file of images and decide what each sample is: label, mask, group, split."""
