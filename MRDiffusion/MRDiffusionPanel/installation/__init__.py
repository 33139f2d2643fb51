"""What the computation needs in Slicer's Python, or at another computer. Nothing is installed without a click.

plan         what is missing or too old, how large it is, where it comes from, what stands in the way
steps        the installation itself
remembered   what is kept in the application's settings: a begun installation, wheel folder, other computer
check        `python -m MRDiffusionLib check` in a process of its own
section      the part of the panel
"""
