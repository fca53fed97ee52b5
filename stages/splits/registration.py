"""Lay one tile on another: the rotation, mirroring, zoom and shift under which they agree best, and how well.

Landmarks that match propose poses (zoom from their scales, angle from the rings' circular correlation); the best is
refined by Newton steps along each of its four parameters. The score is atanh(c) · s: c the correlation of the
band-passed brightness and colour where the tiles overlap (a gain or an offset changes nothing, and colour counts
with either sign, as a recolouring may reverse it), s the geometric mean
of the shares of the two tiles that the overlap covers (a good fit of a small corner is easily had by chance). 0 means
nothing in common, 2 a copy turned or mirrored; unrelated tissue seldom passes 0.3.

Shapes: p pairs, m poses of a pair, k landmarks, v numbers of a vector, s = GRID² points, h = w = SIDE pixels.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.splits.landmarks import ANGLES, SIDE

GRID = 16
"""Points a side at which the tiles are compared."""
POSES = 4
"""Matches of landmarks that are tried."""
HOPELESS = 0.22
"""Score below which a pair's best pose is not refined. Of pairs of LC25000's lung tiles that end above
0.45, less than 1 in 200 begin lower."""
STEPS = 3
FIRST_STEP = (0.08, 0.08, 1.5, 1.5)
"""Log zoom, angle in radians, shift in pixels across and down; each step is SHRINK times the one before."""
SHRINK = 0.7
WIDEST = 3.0
"""Largest zoom between two tiles."""
LEAST_SHARED = 0.15
"""Least share of either tile that must overlap."""
HIGHEST = 0.995
"""Correlations above count as this, or the score of a copy would be infinite."""


class Side(NamedTuple):
    """One side of some pairs."""

    place_pk3: npt.NDArray[np.float32]
    rings_pkra: npt.NDArray[np.float16]
    vector_pkv: npt.NDArray[np.float32]
    band_p4hw: npt.NDArray[np.float16]


class Pose(NamedTuple):
    """Where a place of the first tile lies on the second: z, centre to centre, turned, zoomed, perhaps mirrored."""

    parameters: Tensor
    """(…, 4): log zoom, angle, and the place on the second tile of the first one's centre, across and down."""
    mirror: Tensor
    """(…): −1 where the first tile is mirrored (up and down) before it is turned, else 1."""


def agreement(first: Side, second: Side) -> npt.NDArray[np.float32]:
    """The score of each pair at its best pose, (p,)."""
    whole = torch.from_numpy(first.band_p4hw).float(), torch.from_numpy(second.band_p4hw).float()
    poses = proposals(first, second)
    bands = _at_points(whole[0]), whole[1]
    score_pm = torch.stack(
        [score(*bands, Pose(poses.parameters[:, m], poses.mirror[:, m])) for m in range(POSES)], dim=1
    )
    best_p, place_p = score_pm.max(1)
    row_p = torch.arange(len(best_p))
    hopeful = torch.nonzero(best_p > HOPELESS)[:, 0]
    if len(hopeful):
        pose = Pose(poses.parameters[row_p, place_p][hopeful], poses.mirror[row_p, place_p][hopeful])
        wider, pose = _magnified_first((whole[0][hopeful], whole[1][hopeful]), pose)
        best_p[hopeful] = torch.maximum(best_p[hopeful], _refined((_at_points(wider[0]), wider[1]), pose))
    found: npt.NDArray[np.float32] = best_p.numpy()
    return found


def _at_points(band_p4hw: Tensor) -> Tensor:
    x_s, y_s = (axis.expand(len(band_p4hw), -1) for axis in points())
    return read(band_p4hw, x_s, y_s)


def _magnified_first(bands: tuple[Tensor, Tensor], pose: Pose) -> tuple[tuple[Tensor, Tensor], Pose]:
    """Exchange the two tiles of a pair where the second is magnified, so that all points of the grid meet the other."""
    log_zoom, angle, x0, y0 = pose.parameters.unbind(-1)
    swap = log_zoom > 0
    back = torch.where(pose.mirror < 0, angle, -angle)
    middle = (SIDE - 1) / 2
    across, down = _turned(middle - x0, middle - y0, (-log_zoom).exp(), back, pose.mirror)
    inverse = torch.stack([-log_zoom, back, middle + across, middle + down], -1)
    chosen = swap[:, None, None, None]
    first, second = torch.where(chosen, bands[1], bands[0]), torch.where(chosen, bands[0], bands[1])
    return (first, second), Pose(torch.where(swap[:, None], inverse, pose.parameters), pose.mirror)


def proposals(first: Side, second: Side) -> Pose:
    """Poses from the POSES best matches of landmarks of each pair: parameters (p, m, 4) and mirror (p, m)."""
    a_pkv, b_pkv = torch.from_numpy(first.vector_pkv), torch.from_numpy(second.vector_pkv)
    flat = torch.bmm(a_pkv, b_pkv.transpose(1, 2)).flatten(1).topk(POSES, dim=1).indices
    row = torch.arange(len(flat))[:, None]
    from_pm, to_pm = flat // b_pkv.shape[1], flat % b_pkv.shape[1]
    angle_pm, mirror_pm = turn(
        torch.from_numpy(first.rings_pkra).float()[row, from_pm],
        torch.from_numpy(second.rings_pkra).float()[row, to_pm],
    )
    xa, ya, scale_a = torch.from_numpy(first.place_pk3)[row, from_pm].unbind(-1)
    xb, yb, scale_b = torch.from_numpy(second.place_pk3)[row, to_pm].unbind(-1)
    zoom_pm = scale_b / scale_a
    middle = (SIDE - 1) / 2
    across, down = _turned(middle - xa, middle - ya, zoom_pm, angle_pm, mirror_pm)
    return Pose(torch.stack([zoom_pm.log(), angle_pm, xb + across, yb + down], -1), mirror_pm)


def turn(from_mra: Tensor, to_mra: Tensor) -> tuple[Tensor, Tensor]:
    """The angle, in radians, by which rings must be turned to agree best, and whether they must be mirrored (−1)."""
    wave_a, wave_b = torch.fft.rfft(from_mra, dim=-1), torch.fft.rfft(to_mra, dim=-1)
    plain = torch.fft.irfft((wave_a.conj() * wave_b).sum(-2), n=ANGLES)
    mirrored = torch.fft.irfft((wave_a * wave_b).sum(-2), n=ANGLES)
    is_mirrored = mirrored.amax(-1) > plain.amax(-1)
    match = torch.where(is_mirrored[..., None], mirrored, plain)
    peak = match.argmax(-1, keepdim=True)
    before, here, after = (match.gather(-1, (peak + s) % ANGLES)[..., 0] for s in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = 0.5 * (before - after) / torch.where(bend.abs() > 1e-9, bend, torch.inf)
    angle = (peak[..., 0] + offset.clamp(-0.5, 0.5)) * (2 * math.pi / ANGLES)
    return angle, torch.where(is_mirrored, -1.0, 1.0)


def score(first_p4s: Tensor, second_p4hw: Tensor, pose: Pose) -> Tensor:
    """How well the second tile agrees with the first laid on it at `pose`, as in the module's head: (p,)."""
    x_s, y_s = points()
    log_zoom, angle, x0, y0 = (part[:, None] for part in pose.parameters.unbind(-1))
    middle = (SIDE - 1) / 2
    across, down = _turned(x_s - middle, y_s - middle, log_zoom.exp(), angle, pose.mirror[:, None])
    x_ps, y_ps = across + x0, down + y0
    inside = ((x_ps >= 0) & (x_ps <= SIDE - 1) & (y_ps >= 0) & (y_ps <= SIDE - 1)).float()
    octaves = log_zoom / math.log(2.0)
    weight = inside / inside.sum(1, keepdim=True).clamp_min(1.0)
    second_p4s = read(second_p4hw, x_ps, y_ps)
    bright = _moments(_level(first_p4s[:, :2], -octaves), _level(second_p4s[:, :2], octaves), weight)
    colour = _moments(_level(first_p4s[:, 2:], -octaves), _level(second_p4s[:, 2:], octaves), weight)
    power = (bright[1] + colour[1]) * (bright[2] + colour[2])
    correlation = (bright[0] + colour[0].abs()) / power.sqrt().clamp_min(1e-4)
    share_a = inside.mean(1)
    share_b = (share_a * (2 * log_zoom[:, 0]).exp()).clamp_max(1.0)
    allowed = (torch.minimum(share_a, share_b) >= LEAST_SHARED) & (log_zoom[:, 0].abs() <= math.log(WIDEST))
    value = torch.atanh(correlation.clamp(0.0, HIGHEST)) * (share_a * share_b).sqrt()
    return torch.where(allowed, value, 0.0)


def _refined(bands: tuple[Tensor, Tensor], pose: Pose) -> Tensor:
    """The score after STEPS steps: a Newton step along all parameters at once, or the best along one if that is better.

    Eight trials, one each way along each parameter, give the parabolas.
    """
    here = score(*bands, pose)
    step = torch.tensor(FIRST_STEP)
    for _ in range(STEPS):
        moves = torch.cat([torch.diag(step), -torch.diag(step)])
        trials = torch.stack([score(*bands, Pose(pose.parameters + move, pose.mirror)) for move in moves], 1)
        ahead, behind = trials[:, :4], trials[:, 4:]
        bend = ahead - 2 * here[:, None] + behind
        newton = torch.where(bend < -1e-5, 0.5 * (behind - ahead) / bend, torch.sign(ahead - behind)).clamp(-1, 1)
        jump = Pose(pose.parameters + newton * step, pose.mirror)
        jumped = score(*bands, jump)
        along, which = trials.max(1)
        candidate = torch.where((jumped >= along)[:, None], jump.parameters, pose.parameters + moves[which])
        reached = torch.maximum(jumped, along)
        better = reached > here
        pose = Pose(torch.where(better[:, None], candidate, pose.parameters), pose.mirror)
        here = torch.where(better, reached, here)
        step = step * SHRINK
    return here


def _turned(x: Tensor, y: Tensor, zoom: Tensor, angle: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror up and down, turn, zoom."""
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    return cos * x - sin * mirror * y, sin * x + cos * mirror * y


def _moments(a_ps: Tensor, b_ps: Tensor, weight_ps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance and both variances, weighted: (p,) each."""
    a_ps, b_ps = (v - (v * weight_ps).sum(1, keepdim=True) for v in (a_ps, b_ps))
    return (a_ps * b_ps * weight_ps).sum(1), (a_ps * a_ps * weight_ps).sum(1), (b_ps * b_ps * weight_ps).sum(1)


def points() -> tuple[Tensor, Tensor]:
    """Across and down: the GRID × GRID points of a tile that are compared, (s,) each."""
    grid = (torch.arange(GRID) + 0.5) * (SIDE / GRID) - 0.5
    y_s, x_s = (axis.flatten() for axis in torch.meshgrid(grid, grid, indexing="ij"))
    return x_s, y_s


def read(band_p4hw: Tensor, x_ps: Tensor, y_ps: Tensor) -> Tensor:
    """All bands at places in pixels of SIDE, between pixels by bilinear interpolation: (p, 4, s)."""
    grid = torch.stack([(2 * x_ps + 1) / SIDE - 1, (2 * y_ps + 1) / SIDE - 1], -1)[:, None]
    return F.grid_sample(band_p4hw, grid, padding_mode="border", align_corners=False)[:, :, 0]


def _level(band_p2s: Tensor, octaves_p1: Tensor) -> Tensor:
    """The finer band, or towards the coarser where this tile is magnified: (p, s)."""
    return torch.lerp(band_p2s[:, 0], band_p2s[:, 1], octaves_p1.clamp(0.0, 1.0).expand_as(band_p2s[:, 0]))
