"""How far decoder directions travel, beside controls."""
