"""Figures and pages of the analyses, from tables; no model is loaded here."""
