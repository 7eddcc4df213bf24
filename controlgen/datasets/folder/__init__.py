"""A folder of image files at any depth, brought to one size; what is wrong with a file is told."""
