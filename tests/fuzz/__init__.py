"""Fuzz targets for everything that reads bytes or texts of somebody else."""
