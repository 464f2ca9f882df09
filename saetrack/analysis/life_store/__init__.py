"""The life store: what the explorer shows of every feature at every link of one chain."""
