"""Peers: other programs that do the same work, with a module for each; `catalog` lists them."""
