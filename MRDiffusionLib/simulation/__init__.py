"""Simulated cardiac patients: bSSFP, T2 and LGE short-axis stacks with known scar, for people without real ones.

    anatomy      what is where: a tissue for every voxel, and how bright each voxel is within its tissue
    cine         that from a real bSSFP slice and its contours
    ventricles   that from a model of two ventricles in a chest
    infarct      scar, oedema and microvascular obstruction in the walls
    sequences    what each sequence shows of it: signal equations, coil, resolution, noise
    cohort       patients as files in the layout of MyoPS 2020

Everything here is simulated, and everything that is made from it says so.
"""
