"""The arrangement of a latent's channels as tiles of one picture.

Tile (row r, column c) of plane p is channel (p · rows + r) · columns + c, so the planes of K = planes · n²
channels, with n × n tiles each, are those of `latent_to_pil` in PyPI `walloc`. Tiles after the last channel hold the
code for zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOLD_WIDTH = 128
"""Latent frames in a row of a folded 1-D latent, or fewer if it is shorter; `walloc`'s README uses the same width."""


@dataclass(frozen=True)
class Mosaic:
    """`planes` × `rows` × `columns` tiles of one shape."""

    planes: int
    rows: int
    columns: int

    @property
    def num_tiles(self) -> int:
        """Number of tiles, the maximum number of channels."""
        return self.planes * self.rows * self.columns

    def assemble(self, tiles: np.ndarray, fill: int) -> np.ndarray:
        """Return the picture, uint8 (rows · h, columns · w, planes), of tiles uint8 (K, h, w), padded with `fill`."""
        num, height, width = tiles.shape
        full = np.full((self.num_tiles, height, width), fill, np.uint8)
        full[:num] = tiles
        grid = full.reshape(self.planes, self.rows, self.columns, height, width).transpose(1, 3, 2, 4, 0)
        return grid.reshape(self.rows * height, self.columns * width, self.planes)

    def split(self, picture: np.ndarray, num_channels: int) -> np.ndarray:
        """Return the tiles, uint8 (num_channels, h, w), of a picture of whole tiles: the inverse of `assemble`."""
        height, width = picture.shape[0] // self.rows, picture.shape[1] // self.columns
        grid = picture.reshape(self.rows, height, self.columns, width, self.planes).transpose(4, 0, 2, 1, 3)
        return np.array(grid.reshape(self.num_tiles, height, width)[:num_channels])  # copied, to be writable


@dataclass(frozen=True)
class Layout:
    """A mosaic and the shape of its tiles."""

    mosaic: Mosaic
    tile: tuple[int, int]
    """(h, w)."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self.mosaic.rows * self.tile[0], self.mosaic.columns * self.tile[1]


def choose_layout(latent_shape: tuple[int, ...], planes: int, *, max_side: int) -> Layout | None:
    """Return the layout of a latent (K, h, w), or of a folded latent (K, t); None if it exceeds `max_side` pixels.

    The mosaic has the fewest empty tiles, and is the most nearly square of these. A row of a folded latent has
    `FOLD_WIDTH` frames, which are doubled until the picture is not too high.

    >>> choose_layout((12, 64, 96), 3, max_side=16383)
    Layout(mosaic=Mosaic(planes=3, rows=2, columns=2), tile=(64, 96))
    """
    num_tiles = -(-latent_shape[0] // planes)
    for tile in _tiles(latent_shape[1:], max_side):
        grids = ((rows, -(-num_tiles // rows)) for rows in range(1, num_tiles + 1))
        fitting = [
            (rows, columns) for rows, columns in grids if rows * tile[0] <= max_side and columns * tile[1] <= max_side
        ]
        if fitting:
            rows, columns = min(fitting, key=lambda grid: (grid[0] * grid[1], abs(grid[0] - grid[1]), grid[0]))
            return Layout(Mosaic(planes, rows, columns), tile)
    return None


def square_mosaic(num_channels: int, planes: int) -> Mosaic:
    """Return the smallest n × n mosaic for a number of channels, padded if necessary, as `walloc` makes it."""
    side = 1
    while planes * side**2 < num_channels:
        side += 1
    return Mosaic(planes, side, side)


def fold(codes: np.ndarray, tile: tuple[int, int], fill: int) -> np.ndarray:
    """Return codes (K, t) as (K, h, w), row by row, with t padded to h · w by `fill`; 2-D latents are unchanged."""
    if codes.ndim == 3:
        return codes
    padded = np.full((len(codes), tile[0] * tile[1]), fill, np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.reshape(len(codes), *tile)


def unfold(tiles: np.ndarray, latent_shape: tuple[int, ...]) -> np.ndarray:
    """Return the codes before folding: the inverse of `fold`."""
    if len(latent_shape) == 3:
        return tiles
    return np.ascontiguousarray(tiles.reshape(len(tiles), -1)[:, : latent_shape[1]])


def _tiles(grid: tuple[int, ...], max_side: int) -> list[tuple[int, int]]:
    if len(grid) == 2:
        return [(grid[0], grid[1])]
    frames = grid[0]
    widths = [min(FOLD_WIDTH, frames)]
    while widths[-1] < frames and 2 * widths[-1] <= max_side:
        widths.append(2 * widths[-1])
    return [(-(-frames // width), width) for width in widths]
