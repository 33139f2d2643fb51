"""Training pairs of a cohort: measure each acquired pair, keep it or mend it, on one core or on a cluster.

    plan      what is wanted of all cases; the cases of a folder
    decision  the rule and its limits
    case      one case from its two files to two files and a record
    manifest  the records, one line a case, that a stopped run goes on from
    cluster   cases on Dask: this machine, or a scheduler that runs already
    slurm     its workers as jobs of SLURM
    preload   what a local worker runs first
    build     all of it

Importing this loads neither torch nor Dask.
"""
