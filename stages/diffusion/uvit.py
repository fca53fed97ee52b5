"""U-ViT (Bao et al. 2023, arXiv 2209.12152): time, class and patches are all tokens; long skips join shallow and deep.

This file needs torch, diffusers and timm alone, so a copy of it beside the weights lets anyone load them.

Shapes: `x_bchw` latents; `x_bnd` tokens: one of time, one of class, then the patches row by row.
"""

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.unets.unet_2d import UNet2DOutput
from timm.models.vision_transformer import Block
from torch import Tensor, nn

EXTRAS = 2  # the tokens of time and class
SPREAD = 0.02  # standard deviation of initial weights, as in the paper's code


class UViT(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers carries no types
    """A denoiser of latents on tokens, conditional on class.

    Half of the blocks before the middle one hand their output to its mirror image behind it, which reads it beside
    its own input through one linear layer (the paper's best way to join, figure 2a). A 3 × 3 convolution behind the
    linear head smooths the seams of patches (figure 2d).
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers carries no types
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        num_class_embeds: int,
        width: int,
        depth: int,
        heads: int,
        patch_size: int = 2,
        mlp_ratio: float = 4.0,
    ) -> None:
        """Build the layers; `num_class_embeds` counts the null class, `depth` all blocks and is odd."""
        super().__init__()
        patches = (sample_size // patch_size) ** 2
        self.patch_embed = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.class_embed = nn.Embedding(num_class_embeds, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, EXTRAS + patches, width))
        self.shallow = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth // 2))
        self.middle = Block(width, heads, mlp_ratio)
        self.joins = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth // 2))
        self.deep = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, patch_size**2 * in_channels)
        self.conv_out = nn.Conv2d(in_channels, in_channels, 3, padding=1)

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """Velocity of noisy latents `sample` (b, c, h, w) at steps `timestep` (b,) of classes `class_labels` (b,)."""
        x_bnd = self.patch_embed(sample).flatten(2).transpose(1, 2)
        width = x_bnd.shape[2]
        time_bd = get_timestep_embedding(timestep, width, flip_sin_to_cos=True, downscale_freq_shift=0)
        extras_bnd = torch.stack([time_bd.to(x_bnd.dtype), self.class_embed(class_labels).to(x_bnd.dtype)], dim=1)
        x_bnd = torch.cat([extras_bnd, x_bnd], dim=1) + self.pos_embed
        skips = []
        for block in self.shallow:
            x_bnd = block(x_bnd)
            skips.append(x_bnd)
        x_bnd = self.middle(x_bnd)
        for join, block in zip(self.joins, self.deep, strict=True):
            x_bnd = block(join(torch.cat([x_bnd, skips.pop()], dim=-1)))
        v_bchw = self.conv_out(self._unpatched(self.head(self.norm(x_bnd))[:, EXTRAS:]))
        return UNet2DOutput(sample=v_bchw) if return_dict else (v_bchw,)

    def _unpatched(self, x_bnd: Tensor) -> Tensor:
        """Patches side by side as an image: (b, n, p · p · c) to (b, c, h, w)."""
        p, c = self.config.patch_size, self.config.in_channels
        side = self.config.sample_size // p
        x_bhwpqc = x_bnd.view(len(x_bnd), side, side, p, p, c)
        return x_bhwpqc.permute(0, 5, 1, 3, 2, 4).reshape(len(x_bnd), c, side * p, side * p)


def build(
    latent_shape: tuple[int, int, int],
    classes: int,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    mlp_ratio: float,
    generator: torch.Generator,
) -> UViT:
    """An untrained denoiser in float32 on the CPU; it predicts v = 0 until it is trained.

    Args:
        latent_shape: channels, height and width of a latent.
        classes: number of classes K; the network knows K + 1, the last is the null class.
        width: features of a token; a multiple of `heads`.
        depth: blocks in all; odd: half before the middle one, half behind it.
        heads: heads of each attention.
        patch: side of a patch, in latent pixels.
        mlp_ratio: width of the hidden layer of each block over `width`.
        generator: CPU generator of the initial weights.

    Raises:
        ValueError: the latent is no square of whole patches, or the numbers do not fit together.
    """
    channels, height, breadth = latent_shape
    if height != breadth or height % patch:
        raise ValueError(
            f"a U-ViT cuts a square latent into patches of {patch} × {patch}, but {height} × {breadth} is no such "
            "square; give another denoiser.uvit.patch, or pad the tiles with autoencoder.multiple"
        )
    if width % heads or depth % 2 == 0:
        raise ValueError(f"width {width} must be a multiple of heads {heads}, and depth {depth} odd")
    with torch.device("meta"):  # builds the layers without drawing from the global generator
        network: UViT = UViT(height, channels, classes + 1, width, depth, heads, patch, mlp_ratio)
    network.to_empty(device="cpu")
    draw_weights(network, generator)
    return network


@torch.no_grad()
def draw_weights(network: UViT, generator: torch.Generator) -> None:
    """Draw initial weights in place as the paper's code does, but for the end: zeros in the head, then the identity.

    Behind a random convolution the network first has to learn to undo it, which costs hundreds of steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=SPREAD, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for weight in module.parameters():
                weight.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(generator=generator)
    nn.init.trunc_normal_(network.pos_embed, std=SPREAD, generator=generator)
    network.head.weight.zero_()
    nn.init.dirac_(network.conv_out.weight)
    network.conv_out.bias.zero_()  # type: ignore[union-attr]  # it has one
