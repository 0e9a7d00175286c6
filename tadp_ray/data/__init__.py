"""Images with their ground truth: the contract of a sample, data sets, augmentation, batches."""
