"""Training pairs of a cohort: measure each acquired pair, keep it or mend it, on one core or on a cluster.

    plan      what is wanted of all cases, and the limits; the cases of a folder
    case      one case from its two files to two files and a record
    manifest  the records, one line a case, that a stopped run goes on from
    cluster   cases on Dask: this machine, a scheduler that runs already, SLURM
    build     all of it

Importing this loads neither torch nor Dask.
"""
