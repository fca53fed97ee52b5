"""Landmarks of a tile: blobs at their own scale, and what surrounds each, whatever its rotation, mirroring or zoom.

A blob (a nucleus, a hole) is an extremum of differences of Gaussians over place and scale (Lowe 2004, IJCV 60, sections
3 and 4). Around it the brightness is read on rings whose radii grow with its scale, so a zoom cancels. Turning the
tile shifts the rings' angles by one amount, mirroring reverses them: with F_r(m) the Fourier coefficients over angle,
Re F_r(m) conj F_s(m), for all rings r ≤ s, change under neither. Brightness is centred and scaled, so a recolouring
that keeps the order of light and dark changes little.

Shapes: b tiles, l blur levels, h = w = SIDE pixels, k landmarks, r rings, a angles, d numbers of a description.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
"""Pixels a side at which tiles are looked at, whatever they come in."""
SIGMAS = tuple(1.3 * 2 ** (level / 3) for level in range(10))
"""Blur levels, in pixels; three an octave."""
RINGS = (0.6, 1.2, 1.9, 2.7, 3.6, 4.7, 6.0)
"""Radii of the rings, in scales of the landmark."""
ANGLES = 16
WAVES = 6
"""Fourier coefficients over the angle, beside the mean, that describe a landmark."""
BLOBS = 16
CENTRES = (4.0, 6.5)
"""Scales of two landmarks that every tile has at its centre, in pixels: a picture without blobs has these."""
LANDMARKS = BLOBS + len(CENTRES)
MARGIN = 2.0
"""A blob lies at least this many of its scales from the edge."""
BANDS = ((1.4, 8.0), (2.8, 16.0))
"""Blurs of the band passes that are compared when two tiles are laid on each other; the second for half the zoom."""
FLAT = 0.02
"""Standard deviation of brightness or colour below which a tile shows next to nothing, in units of the range."""
LUMA = (0.299, 0.587, 0.114)
CHROMA = (1.0, 0.0, -1.0)
"""Red less blue: what tells eosin, blood and haematoxylin apart; 0 in a grey picture."""
BAND_SIDE = 32


class Landmarks(NamedTuple):
    """What is kept of each tile; a few kilobytes. Rows are tiles."""

    place_bk3: npt.NDArray[np.float32]
    """x, y (pixels of SIDE) and scale of each landmark."""
    rings_bkra: npt.NDArray[np.float16]
    """Brightness on the rings, centred, of unit length."""
    invariant_bkd: npt.NDArray[np.float16]
    """Description that rotation, mirroring and zoom leave alone."""
    band_b4hw: npt.NDArray[np.float16]
    """The band passes of brightness, then those of colour, at BAND_SIDE pixels a side."""


def describe(pixels_bhwc: npt.NDArray[np.uint8]) -> Landmarks:
    """Find and describe the landmarks of tiles of any one size, RGB."""
    grey_bhw = brightness(pixels_bhwc)
    colour_bhw = _plane(pixels_bhwc, CHROMA)
    blurred_blhw = torch.stack([_blur(grey_bhw, sigma) for sigma in SIGMAS], 1)
    place_bk3 = torch.cat([_blobs(blurred_blhw), _centres(len(grey_bhw))], 1)
    rings_bkra = _unit(_read_rings(blurred_blhw, place_bk3))
    bands = [_blur(plane, fine) - _blur(plane, coarse) for plane in (grey_bhw, colour_bhw) for fine, coarse in BANDS]
    band_b4hw = F.avg_pool2d(torch.stack(bands, 1), SIDE // BAND_SIDE)
    return Landmarks(
        place_bk3.numpy(), rings_bkra.half().numpy(), invariants(rings_bkra).half().numpy(), band_b4hw.half().numpy()
    )


def brightness(pixels_bhwc: npt.NDArray[np.uint8]) -> Tensor:
    """Luminance at SIDE × SIDE, centred and divided by its spread; 0 where a tile has but one colour: (b, h, w)."""
    return _plane(pixels_bhwc, LUMA)


def _plane(pixels_bhwc: npt.NDArray[np.uint8], weights: tuple[float, float, float]) -> Tensor:
    """A weighted sum of the channels, at SIDE × SIDE, centred and divided by its spread."""
    plane_bhw = (torch.tensor(pixels_bhwc).float() * (torch.tensor(weights) / 255)).sum(-1)
    if plane_bhw.shape[-1] != SIDE:
        plane_bhw = F.interpolate(plane_bhw[:, None], size=(SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
    centred_bhw = plane_bhw - plane_bhw.mean((1, 2), keepdim=True)
    return centred_bhw / centred_bhw.square().mean((1, 2), keepdim=True).sqrt().clamp_min(FLAT)


def invariants(rings_bkra: Tensor) -> Tensor:
    """Numbers that rotation and mirroring leave alone, about as long as what they describe: (b, k, d)."""
    wave_bkrm = torch.fft.rfft(rings_bkra, dim=-1, norm="ortho")
    first, second = torch.triu_indices(len(RINGS), len(RINGS))
    twice = torch.where(first == second, 1.0, math.sqrt(2.0))
    found = [wave_bkrm[..., 0].real]
    for m in range(1, WAVES + 1):
        f_bkr = wave_bkrm[..., m] * math.sqrt(2.0)
        products = (f_bkr[..., first] * f_bkr[..., second].conj()).real * twice
        length = f_bkr.abs().square().sum(-1, keepdim=True).sqrt()
        found.append(products / length.clamp_min(1e-4))
    return torch.cat(found, -1)


def _blur(grey_bhw: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, mirrored at the edges: one product with a matrix on either side."""
    matrix_hh = _blur_matrix(sigma)
    return matrix_hh @ grey_bhw @ matrix_hh.T


def _blur_matrix(sigma: float) -> Tensor:
    place = np.arange(-4 * SIDE, 5 * SIDE)
    weight = np.exp(-0.5 * ((place[None] - np.arange(SIDE)[:, None]) / sigma) ** 2)
    folded = np.mod(place, 2 * SIDE)
    folded = np.where(folded >= SIDE, 2 * SIDE - 1 - folded, folded)
    matrix_hh = np.zeros((SIDE, SIDE))
    np.add.at(matrix_hh.T, folded, weight.T)
    return torch.from_numpy(matrix_hh / matrix_hh.sum(1, keepdims=True)).float()


def _blobs(blurred_blhw: Tensor) -> Tensor:
    """x, y and scale of the BLOBS strongest extrema, refined by parabolas; (b, k, 3).

    Where there are fewer, the rest lies at the centre at growing scales, as good as any place.
    """
    step_blhw = blurred_blhw[:, 1:] - blurred_blhw[:, :-1]
    strength = _peaks(step_blhw.abs())
    value, flat = strength.flatten(1).topk(BLOBS, dim=1)
    level, y, x = flat // SIDE**2, flat // SIDE % SIDE, flat % SIDE
    tile = torch.arange(len(flat))[:, None]

    def vertex(dl: int, dy: int, dx: int) -> Tensor:
        before, here, after = (
            step_blhw[
                tile,
                (level + s * dl).clamp(0, step_blhw.shape[1] - 1),
                (y + s * dy).clamp(0, SIDE - 1),
                (x + s * dx).clamp(0, SIDE - 1),
            ]
            for s in (-1, 0, 1)
        )
        return _vertex(before, here, after)

    scale = SIGMAS[0] * 2 ** ((level + 0.5 + vertex(1, 0, 0)) / 3)
    place_bk3 = torch.stack([x + vertex(0, 0, 1), y + vertex(0, 1, 0), scale], -1)
    middle = torch.full((BLOBS, 3), (SIDE - 1) / 2)
    middle[:, 2] = torch.linspace(2.5, 8.0, BLOBS)
    return torch.where((value > 1e-4)[..., None], place_bk3, middle)


def _peaks(strength_blhw: Tensor) -> Tensor:
    """The values that are the largest among their 26 neighbours and far enough from the edges; 0 elsewhere."""
    inner = strength_blhw[:, 1:-1]
    around = torch.maximum(torch.maximum(strength_blhw[:, :-2], inner), strength_blhw[:, 2:])
    for axis in (2, 3):  # three maxima of neighbours, one along each axis, are much faster than a pooling
        size = around.shape[axis]
        wider = around.clone()
        for at, beside in ((slice(1, size), slice(0, size - 1)), (slice(0, size - 1), slice(1, size))):
            into = wider.narrow(axis, at.start, at.stop - at.start)
            torch.maximum(into, around.narrow(axis, beside.start, beside.stop - beside.start), out=into)
        around = wider
    place_h = torch.arange(SIDE)
    from_edge_h = torch.minimum(place_h, SIDE - 1 - place_h)
    from_edge_hw = torch.minimum(from_edge_h[:, None], from_edge_h)
    reach_l11 = torch.tensor([MARGIN * sigma * 2 ** (1 / 6) for sigma in SIGMAS[1:-2]])[:, None, None]
    found = torch.zeros_like(strength_blhw)
    found[:, 1:-1] = torch.where((inner == around) & (from_edge_hw >= reach_l11), inner, 0.0)
    return found


def _vertex(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Where a parabola through three neighbours has its vertex: at most half a step away."""
    bend = before - 2 * here + after
    offset = 0.5 * (before - after) / torch.where(bend.abs() > 1e-6, bend, torch.inf)
    return offset.clamp(-0.5, 0.5)


def _centres(tiles: int) -> Tensor:
    middle = (SIDE - 1) / 2
    return torch.tensor([[middle, middle, scale] for scale in CENTRES]).expand(tiles, -1, -1)


def _read_rings(blurred_blhw: Tensor, place_bk3: Tensor) -> Tensor:
    """Brightness on the rings around each landmark, blurred the more the wider the ring: (b, k, r, a)."""
    tiles, marks = place_bk3.shape[:2]
    angle_a = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    radius_r1 = torch.tensor(RINGS)[:, None]
    x, y, scale = (part[..., None, None] for part in place_bk3.unbind(-1))
    across, down = _mirrored(x + scale * radius_r1 * angle_a.cos()), _mirrored(y + scale * radius_r1 * angle_a.sin())
    level = 3 * torch.log2(scale * (0.2 * radius_r1 + 0.4) / SIGMAS[0])
    level = level.clamp(0, len(SIGMAS) - 1).expand_as(across)
    grid = torch.stack([across / (SIDE - 1), down / (SIDE - 1), level / (len(SIGMAS) - 1)], -1) * 2 - 1
    read = F.grid_sample(
        blurred_blhw[:, None], grid.view(tiles, marks, -1, 1, 3), padding_mode="border", align_corners=True
    )
    return read.view(tiles, marks, len(RINGS), ANGLES)


def _mirrored(place: Tensor) -> Tensor:
    """Places outside the tile, mirrored into it."""
    folded = torch.remainder(place + 0.5, 2 * SIDE)
    return torch.minimum(folded, 2 * SIDE - folded) - 0.5


def _unit(rings_bkra: Tensor) -> Tensor:
    """Centred, each ring weighted by the root of its width, the whole of unit length; 0 where there is nothing."""
    share_r1 = (torch.tensor(RINGS) / sum(RINGS))[:, None]
    centred = rings_bkra - (rings_bkra * share_r1).sum((2, 3), keepdim=True) / ANGLES
    weighted = centred * share_r1.sqrt()
    return weighted / weighted.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-3)
