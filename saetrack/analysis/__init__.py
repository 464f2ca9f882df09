"""One question per file: registered SAEs and tables in, tables out. Trains and draws nothing."""
