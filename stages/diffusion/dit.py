"""DiT (Peebles and Xie 2023, arXiv 2212.09748): a transformer on latent patches, modulated by time and class.

The network is diffusers' DiTTransformer2DModel.
"""

import torch
from diffusers import DiTTransformer2DModel
from torch import nn

SPREAD = 0.02  # standard deviation of the embeddings' initial weights, as in the paper's code


def build(
    latent_shape: tuple[int, int, int],
    classes: int,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    generator: torch.Generator,
) -> DiTTransformer2DModel:
    """An untrained denoiser in float32 on the CPU; it predicts v = 0 until it is trained.

    Unlike the paper's it predicts no variance. diffusers gives every block an embedding of time and class of its own.

    Args:
        latent_shape: channels, height and width of a latent.
        classes: number of classes K; the network knows K + 1, the last is the null class.
        width: features of a token; a multiple of 4 and of `heads`.
        depth: blocks.
        heads: heads of each attention.
        patch: side of a patch, in latent pixels.
        generator: CPU generator of the initial weights.

    Raises:
        ValueError: the latent is no square of whole patches, or the numbers do not fit together.
    """
    channels, height, breadth = latent_shape
    if height != breadth or height % patch:
        raise ValueError(
            f"a DiT cuts a square latent into patches of {patch} × {patch}, but {height} × {breadth} is no such "
            "square; give another denoiser.dit.patch, or pad the tiles with autoencoder.multiple"
        )
    if width % heads or width % 4:
        raise ValueError(f"width {width} must be a multiple of 4 and of heads {heads}")
    with torch.random.fork_rng(devices=[]):  # its fixed position embedding needs real tensors, so no meta device
        network = DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            in_channels=channels,
            out_channels=channels,
            num_layers=depth,
            sample_size=height,
            patch_size=patch,
            num_embeds_ada_norm=classes,
        )
    draw_weights(network, generator)
    leave_labels(network)
    return network


def leave_labels(network: DiTTransformer2DModel) -> None:
    """Take out diffusers' own dropping of labels: training drops them itself, and from its own random stream."""
    for block in network.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0


@torch.no_grad()
def draw_weights(network: DiTTransformer2DModel, generator: torch.Generator) -> None:
    """Draw initial weights in place as the paper's code does: every block is the identity at first (adaLN-zero)."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            if "timestep_embedder" in name:
                module.weight.normal_(std=SPREAD, generator=generator)
            elif name.endswith("norm1.linear") or name.startswith("proj_out"):
                module.weight.zero_()
            else:
                nn.init.xavier_uniform_(module.weight.flatten(1), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=SPREAD, generator=generator)
