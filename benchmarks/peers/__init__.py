"""The same training as other libraries have people write it; each prints the three lines that `train` does.

`EPOCH: 1` comes after the first step of an epoch, `Loss=…` after its last one, and `Test set: …` after the evaluation.
"""
