"""Pairs whose low-quality images the degraders made, for the study of the enhancers.

    python Testing/Studies/synthetic_pairs.py data/brain-pairs.npz data/brain-synthetic.npz
    python Testing/Studies/synthetic_pairs.py data/brain-pairs.npz data/brain-combined.npz --extra 0.333

The first replaces every low-quality image of the training subjects, at the pair's level; the second keeps the acquired
pairs and adds a share of synthetic ones, at other levels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from degrader import made

from MRDiffusionLib.settings import KINDS
from MRDiffusionLib.tasks.device import faster_precision, resolve_device
from MRDiffusionLib.tasks.models import DegraderModel, PackCache
from MRDiffusionLib.training.pairs import UNIT, Pairs, joined, read_pairs, to_levels, write_pairs

TRAINING = (1, 46)
SYNTHETIC = "synthetic (degrader)"


def synthesised(pairs: Pairs, models: dict[str, DegraderModel], first_seed: int = 0) -> Pairs:
    """The same pairs with the degraders' low-quality images."""
    low = np.empty_like(pairs.low)
    for i in range(len(pairs)):
        clean = (pairs.high[i : i + 1] / UNIT).astype(np.float32)
        kind = str(pairs.kind[i])
        image = made(clean, kind, float(pairs.level[i]), models[kind], first_seed + i)
        low[i] = to_levels(torch.from_numpy(image))[0]
        if i % 100 == 99:
            print(f"{i + 1} of {len(pairs)}", flush=True)
    return replace(pairs, low=low, source=np.full(len(pairs), SYNTHETIC), aligned=np.ones(len(pairs), bool))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="archive of acquired pairs")
    parser.add_argument("out", type=Path, help="new archive")
    parser.add_argument("--extra", type=float, metavar="SHARE", help="add so many instead of replacing all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="[default both]")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", default=f"brain-degrade-{kind}", help="pack")
    options = parser.parse_args(arguments)
    device = resolve_device("auto")
    kinds = {kind: getattr(options, kind) for kind in options.kinds}
    models = {kind: PackCache().degrader(pack, device, faster_precision(device)) for kind, pack in kinds.items()}
    pairs = read_pairs(options.pairs)
    pairs = pairs.chosen(np.isin(pairs.kind, options.kinds))
    training = (pairs.subject >= TRAINING[0]) & (pairs.subject <= TRAINING[1])
    if options.extra is None:
        result = joined([synthesised(pairs.chosen(training), models), pairs.chosen(~training)])
    else:
        generator = np.random.default_rng(1)
        own = pairs.chosen(training)
        more = np.zeros(len(own), bool)
        more[generator.choice(len(own), round(options.extra * len(own)), replace=False)] = True
        chosen = own.chosen(more)
        chosen = replace(chosen, level=generator.uniform(0, 1, len(chosen)).astype(np.float32))
        result = joined([pairs, synthesised(chosen, models, first_seed=len(pairs))])
    write_pairs(result, options.out)
    print(f"wrote {options.out}: {len(result)} pairs")


if __name__ == "__main__":
    main()
