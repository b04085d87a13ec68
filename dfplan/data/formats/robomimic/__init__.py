"""robomimic's HDF5 layout."""
