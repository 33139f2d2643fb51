import sys
from pathlib import Path
from MRDiffusionLib.training.config import read_config
from MRDiffusionLib.training.loop import train
train(read_config(sys.argv[1]), sys.argv[2])
