"""Images with ground truth: samples, data sets, augmentation, batches."""
