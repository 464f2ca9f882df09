"""Figures and pages of the analyses, from tables; no model is loaded here.

A figure's function takes tables as the topics give them, a `Setting` (title, caption, what is
shaded) or a title, and a path without suffix, to which it writes `.png` and `.svg`.
"""
