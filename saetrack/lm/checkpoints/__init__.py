"""Where an LM's training checkpoints come from: a hub, a folder, this machine."""
