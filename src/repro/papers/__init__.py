"""The papers, one package each, named like its chapter."""
