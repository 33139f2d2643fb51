"""The panel of MRDiffusion in 3D Slicer. Torch, MONAI and SimpleITK stay out of this process.

    panel            the frame: scene, task, model, state and run
    tasks            what each task is made of, one file each
    form             rows of widgets, made from the settings
    role_rows        the rows of a synthesis: one for each sequence that can be given
    roles            what the scene keeps for each of these sequences
    parameter_node   the settings in the scene, bound to the widgets
    parameters       the same as plain values: what is captured at Apply, and why a run cannot start
    logic            one run after another: volumes out, request, result in; a state, no widget
    worker           the computing process, over Qt
    warming          the process started, and the chosen model tried, before the first run
    estimates        time and memory before a run
    background       work in another thread, or a bit at a time
    in_turn          many runs, one after the other
    sweep            runs over values of settings; sweep_section, contact_sheet, charts
    several          runs over frames (cine) and volumes; folder_batch over files; several_section
    live_preview     the slice in view, computed again and again
    results          what can be done with a result; results_section, sidecars, difference
    comparison       a result beside a real image; compare_section
    nodes            MRML nodes: export, import, provenance, display, folder
    grids            where volumes lie
    views            what the slice views show, and their SYNTHETIC mark
    installation     what this Python lacks, how it is installed and checked, and the other computer
    sentences        longer texts
    self_test        the cases of the module's self-test

`logic`, `nodes`, `parameters` and what `tasks` captures run in any MRML scene, without Slicer's application and without
Qt. Only `panel` asks or tells the person something. Nodes are touched in the main thread only.
"""
