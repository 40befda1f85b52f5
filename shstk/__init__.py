"""The machinery: worlds, decision tables, exploration, graphs, and the command line."""
