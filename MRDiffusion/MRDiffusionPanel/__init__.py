"""The panel of MRDiffusion in 3D Slicer. Torch, MONAI and SimpleITK stay out of this process.

    panel            widgets: shows the parameter node and the logic's state, passes clicks on
    parameter_node   the settings in the scene, bound to the widgets
    parameters       the same as plain values: what is captured at Apply, and why a run cannot start
    logic            one run after another: volume out, request, result in; a state, no widget
    worker           the computing process, over Qt
    nodes            MRML nodes: export, import, names, provenance, display, folder
    views            what the slice views show, and their SYNTHETIC mark
    dependencies     what this Python lacks, and how it is installed
    self_test        the cases of the module's self-test

`logic`, `nodes` and `parameters` run in any MRML scene, without Slicer's application and without Qt. Only `panel` asks
or tells the person something. Nodes are touched in the main thread only.
"""
