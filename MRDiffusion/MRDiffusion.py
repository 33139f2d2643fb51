"""The 3D Slicer module: what Slicer must know about it, the frame of its panel and its self-test.

The panel itself is the package `MRDiffusionPanel` beside this file; the computation is `MRDiffusionLib`, in a process
of its own. Nothing is imported from either before it is needed, and torch never.
"""

import sys
import unittest
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class MRDiffusion(ScriptedLoadableModule):
    """Metadata, and the SYNTHETIC mark in the slice views, which is there before the panel is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("MR Diffusion")
        parent.categories = [_("Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["MRDiffusion contributors"]
        parent.helpText = _(
            "Makes a sequence that was not acquired from others of the same examination (Synthesize), a volume with "
            "smaller pixels from one of low resolution (Super-resolve), or from a good image what a noisy or a fast "
            "scan would have shown (Degrade), with generative diffusion models; a network that learnt from such pairs "
            "improves noisy and blurred images (Enhance). "
            "(Diffusion here is the generative model, not diffusion-weighted imaging.) "
            "Results are computed, marked SYNTHETIC, and not for diagnosis."
        )
        parent.acknowledgementText = _(
            "After Xie et al.: CMRDiff: Multi-sequence CMR synthesis, ISMRM 2024, 0384; Jiang, Gao, Sun: MR image "
            "super-resolution via a variational diffusion model, ISMRM 2023, 0163; and Zhou, Chamberlain: Improved "
            "deep learning MR image enhancement with synthetic images, ISMRM 2024, 2246."
        )
        find_library()
        self.mark = None
        self.sidecars = None
        slicer.app.startupCompleted.connect(self.markViews)
        slicer.app.startupCompleted.connect(self.registerSamples)

    def markViews(self):
        if self.sidecars is None:
            from MRDiffusionPanel.sidecars import Sidecars

            self.sidecars = Sidecars(slicer.mrmlScene, slicer.app.coreIOManager())
            slicer.app.aboutToQuit.connect(self.sidecars.remove)
        if self.mark is None and slicer.app.layoutManager() is not None:
            from MRDiffusionPanel.views import SyntheticMark

            self.mark = SyntheticMark(slicer.mrmlScene, slicer.app.layoutManager())
            slicer.app.aboutToQuit.connect(self.mark.remove)

    def registerSamples(self):
        from MRDiffusionPanel import samples

        samples.register(Path(self.resourcePath("")))


class MRDiffusionWidget(ScriptedLoadableModuleWidget):
    """The frame of the panel."""

    def setup(self):
        super().setup()
        from MRDiffusionPanel.panel import Panel

        slicer.modules.MRDiffusionInstance.markViews()  # where the module was loaded after the start
        self.logic = MRDiffusionLogic()
        self.panel = Panel(self.logic.getParameterNode, Path(self.resourcePath("")))
        self.layout.addWidget(self.panel.widget, 1)

    def enter(self):
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def cleanup(self):
        self.panel.cleanup()


class MRDiffusionLogic(ScriptedLoadableModuleLogic):
    """Gives the scene's one parameter node, typed; runs are in `MRDiffusionPanel.logic`."""

    def getParameterNode(self):
        from MRDiffusionPanel.parameter_node import wrapped

        return wrapped(super().getParameterNode())


class MRDiffusionTest(ScriptedLoadableModuleTest):
    """The self-test. Slicer's test runner collects `test_*`; "Reload and Test" calls `runTest`; both run the same."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for name in unittest.defaultTestLoader.getTestCaseNames(type(self)):
            self.setUp()
            getattr(self, name)()

    def test_sample_is_ready(self):
        from MRDiffusionPanel import self_test

        self_test.sample_is_ready(self)

    def test_result_node(self):
        from MRDiffusionPanel import self_test

        self_test.result_node(self)

    def test_swipe(self):
        from MRDiffusionPanel import self_test

        self_test.swipe(self)

    def test_rehearsal(self):
        from MRDiffusionPanel import self_test

        self_test.rehearsal(self)

    def test_saved(self):
        from MRDiffusionPanel import self_test

        self_test.saved(self)

    def test_stopped(self):
        from MRDiffusionPanel import self_test

        self_test.stopped(self)

    def test_run(self):
        from MRDiffusionPanel import self_test

        self_test.run(self)

    def test_preview(self):
        from MRDiffusionPanel import self_test

        self_test.preview(self)

    def test_tasks(self):
        from MRDiffusionPanel import self_test

        self_test.tasks(self)

    def test_synthesis(self):
        from MRDiffusionPanel import self_test

        self_test.synthesis(self)


def find_library():
    """Make `MRDiffusionLib` importable from a source tree; where installed it lies beside this file."""
    parent = Path(__file__).resolve().parent.parent
    if (parent / "MRDiffusionLib" / "__init__.py").is_file() and str(parent) not in sys.path:
        sys.path.append(str(parent))
