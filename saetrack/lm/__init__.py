"""Language models: the only package that loads one."""

import os

# Read when the hub's client and transformers are imported. Revisions that hold only .bin files
# would otherwise start a background thread that asks the hub for a conversion.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
