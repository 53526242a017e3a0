"""What is measured of a model, one file or folder each."""
