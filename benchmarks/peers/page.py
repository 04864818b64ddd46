"""Page's recipe for this network in an experienced user's loop: 0.4 at epoch 5 of 24, then down to 0; reflected edges.

Source: https://github.com/davidcpage/cifar10-fast (2018).
"""

from dataclasses import replace

import cv2

from benchmarks.peers.plain import run
from benchmarks.peers.task import read_task
from benchmarks.peers.tuned import Tuned

if __name__ == "__main__":
    task = replace(read_task(), border_mode=cv2.BORDER_REFLECT_101)
    schedule = {"pct_start": 5 / 24, "anneal_strategy": "linear", "cycle_momentum": False, "div_factor": 1e4}
    run(task, Tuned(task.make_network()), max_lr=0.4, **schedule)
